"""Every curve: the amounts of work, what is measured at each, and how the figures are shown."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from growth.delivery import delivery, running
from growth.reading import replay, resume
from growth.results import Point
from growth.stored import kept, sweeping, waiting

Points = AsyncIterator[tuple[int, Point]]


class Panel(NamedTuple):
    """One plot of a curve: series of the same unit."""

    unit: str
    series: tuple[str, ...]


class Curve(NamedTuple):
    """`points` measures each of these amounts, in ascending order."""

    title: str
    work: str
    amounts: tuple[int, ...]
    points: Callable[[tuple[int, ...]], Points]
    panels: tuple[Panel, ...]


STEPS = (0, 1_000, 10_000, 100_000)

CURVES: Mapping[str, Curve] = {
    "delivery": Curve(
        "Delivery: 2,000 events a second in all, one reader a log", "live logs",
        (50, 100, 200, 500, 1_000, 2_000, 5_000), delivery,
        (
            Panel("µs of CPU an event", ("frontend", "Redis", "appending")),
            Panel("ms from append to client", ("p50", "p99")),
            Panel("MB", ("frontend, in all",)),
        ),
    ),
    "replay": Curve(
        "Replay of a finished log, one token an entry", "tokens of the log",
        (1_000, 10_000, 100_000, 1_000_000), replay,
        (
            Panel("µs of CPU a 1,000 tokens", ("frontend", "Redis")),
            Panel("bytes a token", ("Redis, stored",)),
            Panel("MB", ("frontend at its peak",)),
        ),
    ),
    "resume": Curve(
        "Resuming at a log that is being written", "tokens of the log",
        (100, 1_000, 10_000, 100_000), resume,
        (
            Panel("ms until the reader has caught up, p50", ("nothing behind", "100 tokens behind")),
            Panel("ms until the reader has caught up, p50 ", ("from the beginning",)),
        ),
    ),
    "waiting": Curve(
        "Creation and pick-up while generations wait", "generations that wait", STEPS, waiting,
        (
            Panel("µs of CPU a creation", ("frontend", "Redis")),
            Panel("µs of CPU a generation that is run", ("worker", "Redis, running")),
            Panel("generations a second", ("generations run",)),
            Panel("MB", ("Redis, memory", "frontend, memory", "worker, memory")),
        ),
    ),
    "sweeping": Curve(
        "Sweeping: generations wait, and nothing else happens", "generations that wait", STEPS, sweeping,
        (Panel("% of a core, of the whole fleet", ("frontend", "Redis")),),
    ),
    "kept": Curve(
        "Creation and lists while ended generations are kept", "generations that are kept", STEPS, kept,
        (
            Panel("µs of CPU a creation", ("frontend", "Redis")),
            Panel("ms of a page of the list, p50", ("newest page",)),
            Panel("MB", ("Redis, memory", "frontend, memory")),
        ),
    ),
    "running": Curve(
        "Generations that one worker runs, 2,000 tokens a second in all", "generations that run",
        (10, 50, 100, 200, 500, 1_000), running,
        (Panel("µs of CPU a token", ("worker", "Redis")), Panel("MB", ("worker, memory",))),
    ),
}  # fmt: skip
