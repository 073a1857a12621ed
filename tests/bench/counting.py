"""What counting costs: `PYTHONPATH=tests python -m bench.counting` prints the µs that each kind of event takes.

Each figure is the least of several runs, less that of an empty loop.
"""

import time
from collections.abc import Callable

from tailrace.log.codec import STAMPED, Row, message, pack, stamp, take_stamp, unpack
from tailrace.stats import Stats

COUNT = 200_000
RUNS = 5


def cost_us(work: Callable[[], object]) -> float:
    """Of one call."""

    def once(call: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(COUNT):
            call()
        return time.perf_counter() - began

    nothing = min(once(lambda: None) for _ in range(RUNS))
    return 1e6 * (min(once(work) for _ in range(RUNS)) - nothing) / COUNT


def main() -> None:
    worker, frontend = Stats("worker"), Stats("frontend")
    entries, rows_of = worker.count("appended_entries_total"), worker.durations("append_batch_rows")
    lag = frontend.durations("delivery_lag_seconds")
    row = [Row(1_795_235_902_123, STAMPED, "text:0", "Hello")]
    sent, packed, gaps = message(row, stamp(1_795_235_902.5)), pack(row), sorted(0.02 + n / 1e5 for n in range(1000))

    sent_now = stamp(1_795_235_902.5)

    def append() -> None:
        entries.value += 1
        rows_of.observe(1)

    def deliver() -> None:
        lag.observe(max(0.0, time.time() - 1_795_235_902.5))

    figures = {
        "an appended batch": cost_us(append),
        "no stamp, found": cost_us(lambda: take_stamp(unpack(packed))) - cost_us(lambda: unpack(packed)),
        "a stamp, written": cost_us(lambda: message(row, sent_now)) - cost_us(lambda: pack(row)),
        "a stamp, read": cost_us(lambda: take_stamp(unpack(sent))) - cost_us(lambda: unpack(packed)),
        "a lag, observed": cost_us(deliver),
        "a gap, at the end of an attempt": cost_us(lambda: rows_of.observe_sorted(gaps[:100])) / 100,
    }
    for name, figure in figures.items():
        print(f"{name:34} {figure:6.3f} µs")
    stamped = sum(figure for name, figure in figures.items() if name.startswith(("a stamp", "a lag")))
    print(f"{'a token, written and delivered':34} {sum(figures.values()) - stamped * (1 - 1 / STAMPED):6.3f} µs")


if __name__ == "__main__":
    main()
