import logging
from typing import Any

import pytest

from support.logs import record
from tailrace.events import Done, Failure, FinalStatus, Timings, Upstream
from tailrace.lifecycle.end_line import MAX_CHARACTERS, end_line, log_end, printable
from tailrace.log.state import GenerationState

USAGE = {"completion_tokens": 383}
TIMINGS = Timings(total=9.71, first_token=0.0812)
REFUSED = Failure("The model `x` does not exist.", "model_not_found")


def state(attempt: int = 1, model: str = "demo") -> GenerationState:
    return GenerationState(record(model=model), "running", 1, attempt, 5, 0, 0, "d")


def done(status: FinalStatus = "completed", **fields: Any) -> Done:
    return Done(status, 1.0, **({"timings": TIMINGS} | fields))


@pytest.mark.parametrize(
    ("attempt", "end", "line"),
    [
        (1, done(usage=USAGE), "completed  demo  383 tokens  9.7 s  first 0.08 s"),
        (2, done(usage=USAGE), "completed  demo  383 tokens  9.7 s  first 0.08 s  (attempt 2)"),
        (1, done(usage=USAGE | {"estimated": True}), "completed  demo  ~383 tokens  9.7 s  first 0.08 s"),
        (1, done(timings=Timings()), "completed  demo  ? s"),
        (1, done(upstream=Upstream(name="backup")), "completed  demo  via backup  9.7 s  first 0.08 s"),
        (1, done("cancelled", usage=USAGE), "cancelled  demo  383 tokens  9.7 s  first 0.08 s"),
        (
            1, done("failed", error=REFUSED, timings=Timings(total=0.43)),
            "failed  demo  model_not_found: The model `x` does not exist.  (attempt 1, 0.4 s)",
        ),
        (
            3, done("incomplete", error=Failure("Cut.", "log_limit")),
            "incomplete  demo  log_limit: Cut.  (attempt 3, 9.7 s)",
        ),
    ],
)  # fmt: skip
def test_line_has_what_happened_and_why(attempt: int, end: Done, line: str) -> None:
    assert end_line(state(attempt), end) == line


def test_line_has_the_detail_for_operators() -> None:
    line = end_line(state(), done("failed", error=REFUSED), "http://127.0.0.1:1/v1: refused")
    assert line == (
        "failed  demo  model_not_found: The model `x` does not exist. [http://127.0.0.1:1/v1: refused]"
        "  (attempt 1, 9.7 s)"
    )


def test_line_is_one_line_without_control_characters() -> None:
    hostile = Failure("a\r\n12:00:00 worker  gen_x completed\x1b[2J\u202e\u2028b", "c\nd")
    line = end_line(state(model="m\nn"), done("failed", error=hostile), "\x00e\n")
    assert line.isprintable()
    assert "a 12:00:00 worker gen_x completed [2J b" in line
    assert len(printable("x" * 10_000)) == MAX_CHARACTERS


@pytest.mark.parametrize(
    ("end", "level"),
    [
        (done(), logging.INFO),
        (done("cancelled", error=Failure("No reader.", "client_disconnected")), logging.INFO),
        (done("failed", error=REFUSED), logging.WARNING),
        (done("incomplete", error=REFUSED), logging.WARNING),
    ],
)
def test_failure_is_a_warning(end: Done, level: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log_end(logging.getLogger("any"), state(), end)
    assert [each.levelno for each in caplog.records] == [level]
    assert caplog.messages[0].startswith(f"{record().id} {end.status}  demo")
