"""A scenario of `scripts/chaos` for each part that can fail, at its short size, and the guards of the mutants.

The default run plays the scenarios of what dies most: workers, frontends and Redis. A scenario mostly waits: for
leases, for processes to start. So two run at a time, each with a product of its own, and a test awaits the run of its
scenario.
"""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from system.chaos import allow_many_sockets, play
from system.mutants import MUTANTS, sources_without
from system.results import Play
from system.scenarios import SCENARIOS
from tailrace.process.tasks import cancel_and_wait

AT_ONCE = 2

PLAYED_ALWAYS = (
    "worker-kills", "zombies", "same-job", "frontend-kills", "redis-kills", "rolled-back-end", "cancel-races",
    "resume-equality", "cursor-fuzz",
)  # fmt: skip
PLAYED_BY_ALL = [pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS if name not in PLAYED_ALWAYS]

Plays = dict[str, "asyncio.Task[Play]"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plays(request: pytest.FixtureRequest) -> AsyncIterator[Plays]:
    """A run of each scenario whose test was selected."""
    allow_many_sockets()
    limit = asyncio.Semaphore(AT_ONCE)

    async def limited(name: str) -> Play:
        async with limit:
            return await play(name, "short", random.randrange(2**32))

    assert set(PLAYED_ALWAYS) <= SCENARIOS.keys()
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    selected = [str(test.callspec.params["name"]) for test in tests if test.originalname == PLAYED]
    playing = {name: asyncio.create_task(limited(name)) for name in selected}
    yield playing
    await cancel_and_wait(*playing.values())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(900)  # one may wait for those before it
@pytest.mark.parametrize("name", [*PLAYED_ALWAYS, *PLAYED_BY_ALL])
async def test_scenario_has_no_violation(plays: Plays, name: str) -> None:
    run = (await plays[name]).run
    found = [each for each in run.violations if each.kind != "late"]  # scripts/chaos judges times
    assert not found, f"scripts/chaos --scenario {name} --size short --seed {run.seed}\n{run.excerpt()}"
    assert run.runs


PLAYED = test_scenario_has_no_violation.__name__


@pytest.mark.parametrize("name", MUTANTS)
def test_guard_of_a_mutant_is_in_the_sources(name: str) -> None:
    with sources_without(MUTANTS[name]) as sources:
        assert all(source.is_dir() for source in sources)
