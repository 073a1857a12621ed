"""A worker has written `done`, and died before it settled: its caller is charged all the same, and once."""

import asyncio

import pytest
from redis.asyncio import Redis

from support.ends import confirmations_on
from support.log_writer import LogWriter
from support.logs import record as record_of
from support.queues import queue_on, submit
from tailrace import keys
from tailrace.ids import new_generation_id
from tailrace.lifecycle import confirmation, finalization, sweeper
from tailrace.lifecycle.confirmation import Confirmations
from tailrace.lifecycle.finalization import finalize
from tailrace.lifecycle.sweeper import Sweeper
from tailrace.log import Log
from tailrace.log.spent import NANO
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Budgets, Reservation, Terms

USAGE = {"prompt_tokens": 30, "completion_tokens": 70}
COST = 0.25
CHARGED = (100, 100, NANO // 4, NANO // 4, 0, 0)
"""Tokens of the day and of the month, their costs, and what is reserved: tokens, cost."""


class Fleet:
    """A log, its queue, and processes that sweep on demand."""

    def __init__(self, redis: Redis, log: Log) -> None:
        self.redis, self.log, self.queue = redis, log, queue_on(redis)

    def confirmations(self) -> Confirmations:
        return confirmations_on(self.log, self.queue)

    async def unsettled(self) -> GenerationState:
        """Of a generation that reserved, and whose worker wrote `done` and nothing after it."""
        record = record_of(id=new_generation_id(), owner="anna")
        wanted = Reservation(
            record.id, record.model, 60_000, 10, Budgets(), 6000, max_output=500, input_price=1.0, output_price=1.0
        )
        assert (await self.queue.load("anna", terms=Terms(reservation=wanted))).quota.refused == ""
        await submit(self.log, self.queue, record)
        await self.queue.jobs.take((await self.log.state(record.id)).job_id, "worker", 60_000)
        writer = await LogWriter.start(self.log, record.id)
        await writer.end(usage=USAGE, cost=COST)
        assert await self.used() == (0, 0, 0, 0, 510, 510)
        return await self.log.state(record.id)

    async def used(self) -> tuple[int, ...]:
        (use,) = await self.queue.quotas.use_of(["anna"])
        spent = use.spent
        return (
            spent.day_tokens, spent.month_tokens, spent.day_cost, spent.month_cost, use.held_tokens, use.held_cost,
        )  # fmt: skip

    async def sweep(self) -> None:
        """As a process that did not sweep before, in the next period."""
        await self.redis.delete(*(keys.swept(shard) for shard in range(keys.UNFINISHED_SETS)))
        sweeping = Sweeper(
            self.log, self.queue, self.confirmations(), max_attempts=3, connected_for=lambda: float("inf")
        )
        await sweeping.sweep()

    async def unfinished(self) -> list[str]:
        return [each for shard in await self.log.unfinished.shards() for each in await shard.list()]


@pytest.fixture
def fleet(redis: Redis, log: Log, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(sweeper, "HOLD_OFF_S", -60.0)  # the test's server may have just started
    return Fleet(redis, log)


async def test_sweeper_charges_what_a_dead_worker_did_not_settle_once(fleet: Fleet) -> None:
    state = await fleet.unsettled()
    await fleet.sweep()
    assert await fleet.used() == CHARGED
    assert await fleet.unfinished() == []
    await finalize(fleet.log, fleet.queue, state)  # the worker was not dead, but slow
    await fleet.log.server.execute(*fleet.log.unfinished.add_command(state.record.id))  # the removal was lost
    await fleet.sweep()
    assert await fleet.used() == CHARGED


async def test_sweeper_does_not_charge_what_the_worker_has_settled(fleet: Fleet) -> None:
    """It died before the last step, by which the generation leaves the index."""
    state = await fleet.unsettled()
    await finalization.remove_from_queue(fleet.log, fleet.queue, state)
    assert await fleet.unfinished() == [state.record.id]
    assert await fleet.used() == CHARGED
    await fleet.sweep()
    assert await fleet.unfinished() == []
    assert await fleet.used() == CHARGED


@pytest.mark.parametrize("is_swept_first", [True, False])
async def test_deletion_of_an_end_that_was_not_settled_charges_it_once(
    fleet: Fleet, is_swept_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweeper finds nothing of it any more; the frontend that deleted it knows what it had used."""
    monkeypatch.setattr(confirmation, "CONFIRM_S", 0.0)
    state, confirmations = await fleet.unsettled(), fleet.confirmations()
    await confirmations.delete(state)
    if is_swept_first:
        await fleet.sweep()
    await confirmed(confirmations)
    assert await fleet.used() == CHARGED
    await fleet.sweep()
    assert await fleet.used() == CHARGED
    assert (await fleet.queue.load("anna")).own == 0


async def confirmed(confirmations: Confirmations) -> None:
    """Run until everything is confirmed, and repeated on the queue's server."""
    task = asyncio.create_task(confirmations.run())
    await confirmations.drain(10)
    assert len(confirmations) == 0
    await cancel_and_wait(task)
