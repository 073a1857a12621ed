"""Every scenario of `scripts/chaos`, at the size for every day.

Most of a scenario is waiting: for leases, for processes to start. So two are under way at a time, each with a product
of its own, and a test waits for its own.
"""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from system.chaos import SCENARIOS, Row, allow_many_sockets, play
from system.mutants import MUTANTS, sources_without
from tailrace.process.tasks import cancel_and_wait

AT_ONCE = 2

Rows = dict[str, "asyncio.Task[Row]"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(request: pytest.FixtureRequest) -> AsyncIterator[Rows]:
    """What came of each scenario that was asked for."""
    allow_many_sockets()
    limit = asyncio.Semaphore(AT_ONCE)

    async def row(name: str) -> Row:
        async with limit:
            return await play(name, "short", random.randrange(2**32))

    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asked_for = [str(test.callspec.params["name"]) for test in tests if test.originalname == PLAYED]
    playing = {name: asyncio.create_task(row(name)) for name in asked_for}
    yield playing
    await cancel_and_wait(*playing.values())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(240)  # the first one waits while others are under way
@pytest.mark.parametrize("name", SCENARIOS)
async def test_nothing_is_lost_doubled_or_left_hanging(rows: Rows, name: str) -> None:
    run = (await rows[name]).run
    assert not run.violations, f"scripts/chaos --scenario {name} --size short --seed {run.seed}\n{run.excerpt()}"
    assert run.runs


PLAYED = test_nothing_is_lost_doubled_or_left_hanging.__name__


@pytest.mark.parametrize("name", MUTANTS)
def test_every_guard_that_can_be_taken_out_is_there(name: str) -> None:
    with sources_without(MUTANTS[name]) as sources:
        assert all(source.is_dir() for source in sources)
