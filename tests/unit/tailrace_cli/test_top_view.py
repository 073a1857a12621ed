"""What `tailrace top` shows."""

from typing import Any

import pytest
from rich.cells import cell_len

from tailrace_cli.top_view import View, lines

NOW = 1_000_000.0
ID = "gen_yzm3t4phek6r4zwhvvqtri6evs"


def worker(name: str, **status: Any) -> Any:
    return {
        "id": name,
        "silent": 0.1,
        "running": 3,
        "slots": 100,
        "started_at": NOW - 90,
        "rss_bytes": 1 << 26,
    } | status


def caller(name: str, running: int = 0, *, max_running: int | None = None, blocked: bool = False) -> Any:
    spent = {"tokens": 0, "usd": 0.0}
    return {
        "name": name, "blocked": blocked, "policy": {},
        "limits": {
            "weight": 1.0, "max_running": max_running, "tokens_per_minute": None, "budget_day_tokens": None,
            "budget_month_tokens": None,
        },
        "use": {
            "running": running, "waiting": 0, "readers": 0, "tokens_this_minute": 0, "day": spent, "month": spent,
            "reserved": spent,
        },
    }  # fmt: skip


def generation(generation_id: str = ID, attempt: int = 1) -> Any:
    return {
        "id": generation_id, "owner": "web", "model": "demo", "created_at": NOW - 5, "worker": "abcdefgh",
        "attempt": attempt, "tokens": None,
    }  # fmt: skip


def view(workers: int = 1, callers: int = 1, generations: int = 1, **overview: Any) -> View:
    base = {
        "waiting": 0, "waited": 0.0, "running": generations, "slots": 100, "tokens_per_second": 12.5, "readers": 4,
        "workers": [worker(f"worker{n:010}") for n in range(workers)],
        "upstreams": [{"name": "default", "calls": 9, "failures": 2, "in_use": 1, "open": True}],
        "servers": [
            {"name": "redis", "memory": 1 << 20, "memory_limit": 1 << 30, "percent": 0.1, "commands_per_second": 1200}
        ],
        "badges": [],
    }  # fmt: skip
    return View(
        base | overview, [caller(f"caller-{n}") for n in range(callers)], [generation() for _ in range(generations)]
    )


def test_pipe_gets_a_line_for_each_worker_caller_and_generation() -> None:
    shown = lines(view(workers=20, callers=20, generations=20), now=NOW)
    assert shown[0] == "tailrace  running 20/100  waiting 0  12.5 tokens/s  4 readers"
    assert shown[1] == "servers   redis 1 MiB (0 %), 1,200 commands/s"
    assert shown[2] == "upstreams default: 1 under way, 2 of 9 calls failed, circuit open"
    assert len([line for line in shown if line.startswith("worker0")]) == 20
    assert len([line for line in shown if line.startswith("caller-")]) == 20
    assert len([line for line in shown if line.startswith(ID)]) == 20
    assert not [line for line in shown if "\x1b" in line or "█" in line or "…" in line or "more" in line]


@pytest.mark.parametrize("columns", [20, 80, 200])
@pytest.mark.parametrize("rows", [1, 5, 24, 60])
def test_terminal_is_never_overfull(columns: int, rows: int) -> None:
    shown = lines(
        view(workers=20, callers=20, generations=100, waiting=3, waited=70.0), now=NOW, columns=columns, rows=rows
    )
    assert len(shown) <= rows
    assert max(map(cell_len, shown)) <= columns


def test_terminal_shows_the_busiest_callers_and_how_many_more_there_are() -> None:
    shown = lines(
        view()._replace(callers=[*(caller(f"idle-{n}") for n in range(20)), caller("busy", 7)]),
        now=NOW, columns=120, rows=40,
    )  # fmt: skip
    first = next(n for n, line in enumerate(shown) if line.startswith("CALLER")) + 1
    assert shown[first].startswith("busy")
    assert "and 13 more callers" in shown


def test_running_generations_that_do_not_fit_are_counted() -> None:
    shown = lines(view(generations=100), now=NOW, columns=80, rows=30)
    ids = [line for line in shown if line.startswith(ID)]
    assert shown[-1] == f"and {100 - len(ids)} more generations"


def test_problems_stand_above_the_tables_in_their_colours() -> None:
    badges = [{"level": "bad", "text": "No worker\x1b is alive."}, {"level": "warning", "text": "Slow."}]
    shown = lines(view(badges=badges), now=NOW, columns=80, rows=40, problem="It is away.", colours=True)
    assert shown[3:6] == [
        "\x1b[31mIt is away.\x1b[0m", "\x1b[31mNo worker\\x1b is alive.\x1b[0m", "\x1b[33mSlow.\x1b[0m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "ready"),
        ({"draining": True}, "drains"),
        ({"silent": 75.0}, "silent 1 min"),
        ({"refusal": "No Redis."}, "not ready"),
    ],
)
def test_worker_has_its_state(status: Any, state: str) -> None:
    shown = lines(
        view(workers=0)._replace(overview=view(workers=0).overview | {"workers": [worker("w", **status)]}), now=NOW
    )
    (row,) = [line for line in shown if line.startswith("w ")]
    assert f"  {state}" in row


def test_bars_are_for_wide_terminals() -> None:
    assert "█" in lines(view(generations=50), now=NOW, columns=80, rows=40)[0]
    (header,) = [line for line in lines(view(), now=NOW, columns=80, rows=40) if line.startswith("WORKER")]
    assert "LOAD" not in header
    (header,) = [line for line in lines(view(), now=NOW, columns=120, rows=40) if line.startswith("WORKER")]
    assert "LOAD" in header
