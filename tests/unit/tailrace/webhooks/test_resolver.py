"""The resolver with names that take as long as a test wants."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.hub_harness import until
from tailrace.webhooks.resolver import OWNER_THREADS, Name, Resolver


class Names:
    """Stands for `getaddrinfo`: a name that begins with `slow` has no answer before `answer` is set."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.asked: Counter[str] = Counter()

    def getaddrinfo(self, host: str, port: int, *_: Any) -> list[Any]:
        self.asked[host] += 1
        if host.startswith("slow"):
            self.answer.wait(20)
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
async def resolver(names: Names) -> AsyncIterator[Resolver]:
    resolver = Resolver()
    yield resolver
    names.answer.set()
    resolver.close()


def name(host: str, owner: str = "anna") -> Name:
    return Name(owner, host, 443, socket.AF_INET)


async def host_of(resolver: Resolver, wanted: Name) -> str:
    ((*_, (host, _)),) = await resolver.resolve(wanted)
    return str(host)


async def test_owner_has_so_many_names_resolved_at_the_same_time(resolver: Resolver, names: Names) -> None:
    async with asyncio.TaskGroup() as tasks:
        for n in range(3 * OWNER_THREADS):
            tasks.create_task(resolver.resolve(name(f"slow-{n}")))
        await until(lambda: len(names.asked) == OWNER_THREADS)
        await asyncio.sleep(0.05)
        assert len(names.asked) == OWNER_THREADS
        async with asyncio.timeout(1):
            assert await host_of(resolver, name("quick", "ben")) == "quick"
        names.answer.set()
    assert len(names.asked) == 3 * OWNER_THREADS + 1


async def test_look_up_whose_sends_are_cut_off_keeps_its_place_until_it_ends(resolver: Resolver, names: Names) -> None:
    """Its thread is in use as long."""
    for n in range(3 * OWNER_THREADS):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(resolver.resolve(name(f"slow-{n}")), 0.01)
    await until(lambda: len(names.asked) == OWNER_THREADS)
    names.answer.set()
    assert await host_of(resolver, name("quick")) == "quick"
    assert len(names.asked) == OWNER_THREADS + 1


async def test_sends_of_an_owner_to_one_name_share_a_look_up(resolver: Resolver, names: Names) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(resolver.resolve(name("slow-1")))
        others = [tasks.create_task(host_of(resolver, name(f"quick-{n}"))) for n in range(OWNER_THREADS)]
        await until(lambda: all(each.done() for each in others))
        names.answer.set()
    assert names.asked["slow-1"] == 1


async def test_name_of_two_owners_is_looked_up_for_each(resolver: Resolver, names: Names) -> None:
    """Otherwise one who names the other's receiver makes it wait for names that are slow."""
    async with asyncio.TaskGroup() as tasks:
        for n in range(OWNER_THREADS):
            tasks.create_task(resolver.resolve(name(f"slow-{n}")))
        waiting = tasks.create_task(resolver.resolve(name("quick")))
        await until(lambda: len(names.asked) == OWNER_THREADS)
        async with asyncio.timeout(1):
            assert await host_of(resolver, name("quick", "ben")) == "quick"
        assert not waiting.done()
        names.answer.set()


async def test_name_is_looked_up_again_each_time(resolver: Resolver, names: Names) -> None:
    for _ in range(2):
        await resolver.resolve(name("quick"))
    assert names.asked["quick"] == 2


async def test_name_without_an_address_is_an_error_for_each_that_waits(resolver: Resolver, names: Names) -> None:
    found = await asyncio.gather(*(resolver.resolve(name("unknown")) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [socket.gaierror] * 3
    with contextlib.suppress(asyncio.CancelledError):
        waiting = asyncio.create_task(resolver.resolve(name("unknown")))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting
    assert await host_of(resolver, name("quick")) == "quick"
