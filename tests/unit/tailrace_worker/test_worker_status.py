import os

from tailrace_worker import worker_status
from tailrace_worker.worker_status import StatusMeter


class Run:
    def __init__(self) -> None:
        self.contents = 0


def test_status_has_the_process_and_its_jobs() -> None:
    status = StatusMeter(slots=7).status([], 3, draining=True)
    assert (status.pid, status.running, status.slots, status.draining) == (os.getpid(), 3, 7, True)
    assert status.host
    assert status.version
    assert status.started_at > 0
    assert status.rss_bytes is None or status.rss_bytes > 1_000_000


def test_rate_counts_each_piece_of_content_once() -> None:
    meter, run, other = StatusMeter(1), Run(), Run()
    run.contents = 5
    meter.count(run)
    run.contents, other.contents = 8, 2
    meter.count(other)
    for each in (run, other):
        meter.count(each)
    assert meter._contents == 10
    run.contents = 3
    meter.count(run)
    assert meter._contents == 13, "another attempt has begun"
    assert meter.status([run, other], 2, draining=False).tokens_per_second > 0
    assert meter._contents == 0


def test_system_without_proc_has_no_memory(monkeypatch: object) -> None:
    statm = worker_status.STATM
    try:
        worker_status.STATM = statm / "missing"
        assert StatusMeter(1).status([], 0, draining=False).rss_bytes is None
    finally:
        worker_status.STATM = statm
