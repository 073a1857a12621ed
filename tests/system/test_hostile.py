"""Every attack of `scripts/hostile` at its short size. All of them run at once, against one frontend with 20 readers.

Their limits of time make each take up to half a minute. Delays and memory are measured by `scripts/hostile --size
full`, on a machine that does nothing else.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from system.chaos import allow_many_sockets
from system.hostile import READERS, scene
from system.hostile_attacks import ATTACKS

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


class Outcome(NamedTuple):
    """`ends` by attack; the tokens that the readers got meanwhile; readers that were cut; places that stay taken."""

    ends: dict[str, dict[str, int]]
    tokens: int
    cut: int
    strays: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcome() -> AsyncIterator[Outcome]:
    allow_many_sockets()
    async with scene("short") as found:
        await found.readers.do("begin")
        ends = await found.attack({name: attack.short for name, attack in ATTACKS.items()})
        await asyncio.sleep(0.5)
        report = await found.readers.do("report")
        strays = await found.count_strays()
    yield Outcome(ends, int(report["tokens"]), int(report["cut"]), strays)


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack_has_its_documented_end(outcome: Outcome, name: str) -> None:
    assert sum(outcome.ends[name].values()) == ATTACKS[name].short
    assert set(outcome.ends[name]) <= ATTACKS[name].ends


async def test_readers_read_on_beside_all_attacks(outcome: Outcome) -> None:
    assert outcome.cut == 0
    assert outcome.tokens > 20 * READERS["short"]


async def test_attackers_keep_no_place_of_a_reader(outcome: Outcome) -> None:
    assert outcome.strays == 0
