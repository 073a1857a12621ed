"""Costs that are known: the model takes the place of the product, and the calibration has to find them again."""

import pytest

from bench.quantiles import Latency
from simulation.calibration import LOADS, costs
from simulation.constants import path_costs
from simulation.live_path import LivePath
from simulation.measured import Trial, by_role, wake_up_delays
from simulation.path_load import PathShape
from simulation.validation import LOADS as VALIDATED

KNOWN = path_costs()


def trial(shape: PathShape) -> Trial:
    result = LivePath(shape, KNOWN, None).run(0.5, 2.0)
    window = result.window
    cores = {role: spent / result.seconds for role, spent in result.cpu_s.items()}
    idle = {"frontend": KNOWN.frontend_idle * shape.frontends, "redis": 0.0}
    latency = Latency(result.delivered, 0.0, 0.0, 0.0)
    return Trial(
        shape, 2.0, cores, idle, result.delivered, window.appended, window.pipelines, latency, 0.0, [], {}
    )  # fmt: skip


def test_calibration_finds_the_costs_of_a_known_system() -> None:
    found = costs([trial(shape) for shape in LOADS])
    assert found.token_s == pytest.approx(KNOWN.token_s, rel=0.1)
    assert found.pipeline_s == pytest.approx(KNOWN.pipeline_s, rel=0.1)
    assert found.read_s == pytest.approx(KNOWN.read_s, rel=0.15)
    assert found.frame_s + found.write_s == pytest.approx(KNOWN.frame_s + KNOWN.write_s, rel=0.15)
    assert found.batch_s + found.notify_s == pytest.approx(KNOWN.batch_s + KNOWN.notify_s, rel=0.15)
    assert found.client_s == pytest.approx(KNOWN.client_s, rel=0.2)


def test_what_is_validated_is_not_what_was_calibrated() -> None:
    assert not set(LOADS) & set(VALIDATED)
    assert {load.frontends for load in VALIDATED} == {1, 2, 4}


def test_roles_are_sums_of_their_processes() -> None:
    spent = by_role({"frontend0": 1.0, "frontend1": 2.0, "redis": 4.0, "append": 8.0, "readers": 16.0})
    assert spent == {"frontend": 3.0, "redis": 4.0, "append": 8.0, "readers": 16.0}


def test_delays_are_beyond_the_timers_own() -> None:
    delays = wake_up_delays(0.05)
    assert min(delays) == 0.0
    assert sum(each == 0.0 for each in delays) >= len(delays) // 2
