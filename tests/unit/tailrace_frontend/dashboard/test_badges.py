from typing import Any

import pytest

from tailrace.queue.presence import LiveWorker, WorkerStatus
from tailrace.settings import Settings
from tailrace.stats.slots import COUNTERS
from tailrace_frontend.dashboard.badges import RECENT, Facts, badges_of

SETTINGS = Settings(lease_s=5, max_memory_percent=85)
WORKER = LiveWorker("worker-1", 300, WorkerStatus(running=1, slots=10))


def codes(**changes: Any) -> list[str]:
    healthy: dict[str, Any] = {
        "waiting": 0, "waited": 0.0, "workers": [WORKER], "circuits": {}, "memory_percent": 40.0, "skew": 0.1,
        "settings": SETTINGS, "subscribed": True,
    }  # fmt: skip
    return [badge.code for badge in badges_of(Facts(**healthy | changes))]


def test_healthy_installation_has_no_badge() -> None:
    assert codes() == []
    assert codes(waiting=5, waited=2.0) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"workers": []}, "no_workers"),
        ({"workers": [WORKER._replace(status=WorkerStatus(draining=True))], "waiting": 3}, "all_draining"),
        ({"waiting": 3, "waited": 11.0}, "waiting"),
        ({"workers": [WORKER, WORKER._replace(name="w2", silent_ms=6000)]}, "silent:w2"),
        ({"workers": [WORKER._replace(status=WorkerStatus(refusal="Redis is away."))]}, "unready:worker-1"),
        ({"circuits": {"one": 4000}}, "circuit:one"),
        ({"memory_percent": 86.0}, "memory"),
        ({"subscribed": False}, "subscriber"),
        ({"skew": -3.0}, "skew"),
        ({"recent": {"leases_lost": 1, "restarts": 0}}, "leases_lost"),
        ({"recent": {"restarts": 3}}, "restarts"),
        ({"recent": {"restored": 1}}, "restored"),
        ({"recent": {"readers_restarted": 1}}, "readers_restarted"),
    ],
)
def test_each_condition_has_its_badge_alone(changes: dict[str, Any], code: str) -> None:
    assert codes(**changes) == [code]


def test_counts_of_the_history_are_those_that_badges_have() -> None:
    assert set(RECENT) <= {metric.history for metric in COUNTERS}


def test_worst_comes_first() -> None:
    assert codes(skew=9.0, subscribed=False, circuits={"one": 1}) == ["subscriber", "circuit:one", "skew"]
