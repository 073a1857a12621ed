"""Who calls under `tailrace dev --load`, and for what: made up, so that each view of the dashboard has life."""

from collections.abc import Sequence
from typing import NamedTuple

from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.load_readers import LEAVING, LIVE, RETURNING, SLOW, Reader
from tailrace_frontend.callers import OPEN

RETENTION_S = 3600
"""For an hour: the answers are made up."""

MAX_RATE = 50.0
WEB = "web"


class LoadCaller(NamedTuple):
    """A caller. `share`: of the rate. `at_once`: generations that it creates together. `cancels`: the share of its
    generations that it cancels. `answers` and `faults`: models of the demo, with how often each is asked for; `@60`: at
    60 tokens a second."""

    share: float
    policy: Json
    answers: dict[str, float]
    faults: dict[str, float]
    readers: tuple[Reader, ...] = ()
    at_once: int = 1
    cancels: float = 0.0
    priority: str = "normal"


CALLERS: dict[str, LoadCaller] = {
    WEB: LoadCaller(
        0.4, {"weight": 3},
        {"demo": 6, "demo@120": 4, "demo:reasoning@80": 2, "demo:tools@80": 1},
        {"demo:429-ms-once@80": 0.5, "demo:cut-once@80": 0.5, "demo:stall-once@80": 0.5},
        readers=(LIVE, LIVE, SLOW, RETURNING), cancels=0.1,
    ),
    "mobile": LoadCaller(
        0.25, {"weight": 2, "tokens_per_minute": 100_000},
        {"demo@60": 6, "demo:refusal@60": 1, "demo:length@60": 1},
        {"demo:eof-once@60": 0.5, "demo:error@60": 0.5},
        readers=(SLOW, LEAVING, RETURNING), cancels=0.15,
    ),
    "batch": LoadCaller(
        0.2, {"weight": 1, "max_running": 2, "budget_day_tokens": 5_000_000},
        {"demo:long@800": 1, "demo:json-mode@200": 3}, {}, at_once=6, priority="low",
    ),
    "evals": LoadCaller(
        0.15, {"weight": 0.5},
        {"demo@400": 2, "demo:content-filter@200": 1, "demo:json-misfit@200": 1, "demo:malformed@200": 1},
        {
            "demo:401": 1, "demo:400": 1, "demo:html": 0.5, "demo:error-first": 0.5, "demo:stall@200": 1,
            "demo:cut@200": 1,
        },
    ),
}  # fmt: skip


def callers_in(settings: Settings) -> dict[str, LoadCaller]:
    """The callers by name. In open mode the first one is the caller of all requests, so that those who read its answers
    are its readers, and not operators who watch."""
    if settings.has_callers:
        return CALLERS
    return {OPEN if name == WEB else name: caller for name, caller in CALLERS.items()}


def models_of(caller: LoadCaller, *, has_faults: bool) -> dict[str, float]:
    """The models that the caller asks for, with how often."""
    return caller.answers | (caller.faults if has_faults else {})


def description(rate: float, names: Sequence[str], url: str, *, has_faults: bool) -> str:
    """What the load of these callers does, and where it can be seen."""
    faults = "faults, and a worker that is killed now and then" if has_faults else "no faults"
    return f"{rate:g} generations a second by {', '.join(names[:-1])} and {names[-1]}; {faults}: {url}/dashboard"
