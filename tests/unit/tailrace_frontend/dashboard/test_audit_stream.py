"""A follower of the audit, without a server: what it sends, what wakes it, and what ends it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.hub_harness import HEADERS, Client, HubHarness, until
from support.subscriptions import connection_of
from tailrace import keys
from tailrace.audit import Audit, Entry, Line
from tailrace.errors import RedisUnavailable
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.dashboard import audit_stream
from tailrace_frontend.dashboard.audit_stream import KEEP_ALIVE, AuditFeed, AuditStream

LINE = Line("ops", "block_caller", "web", "ok", "10.0.0.1")


class ListedAudit(Audit):
    """An audit in a list; `is_away`: it cannot be read."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_away = False
        self.reads = 0

    def add(self, count: int = 1) -> None:
        for number in range(len(self.entries) + 1, len(self.entries) + 1 + count):
            self.entries.append(Entry(f"{number}-0", number * 1000, LINE, 0))

    async def following(self, limit: int, after: str) -> list[Entry]:
        self.reads += 1
        if self.is_away:
            raise RedisUnavailable
        first = int(after.partition("-")[0])
        return self.entries[first : first + limit]


class Follow:
    """Followers on a hub."""

    def __init__(self) -> None:
        self.harness = HubHarness(keepalive_s="20")
        self.audit = ListedAudit()
        self.feed = AuditFeed(self.audit, self.harness.hub.subscriber)

    async def start(self, position: str = "0-0", client: Client | None = None) -> Client:
        client, harness = client or Client(), self.harness
        stream = AuditStream(
            harness.hub, self.feed, position, client.connection, client.send, ApiKey("anna", b""),
            lambda key: key.owner in harness.valid_owners, HEADERS,
        )  # fmt: skip
        harness.tasks.append(asyncio.create_task(stream.run()))
        await until(lambda: self.audit.reads)
        return client

    def announce(self) -> None:
        connection_of(self.harness.hub.subscriber)._on_reply([b"smessage", keys.AUDIT_ADDED.encode(), b""])


@pytest_asyncio.fixture
async def follow() -> AsyncIterator[Follow]:
    follow = Follow()
    yield follow
    await follow.harness.close()


async def test_follower_is_sent_its_position_and_what_follows_it(follow: Follow) -> None:
    follow.audit.add(3)
    client = await follow.start("1-0")
    await until(lambda: len(client.events) == 2)
    assert client.writes[0] == b"id: 1-0\n\n"
    assert [event.id for event in client.events] == ["2-0", "3-0"]
    assert client.events[0].value == {"id": "2-0", "at": 2.0, **LINE._asdict(), "repeated": 0}


async def test_message_wakes_followers_and_a_lost_one_delays_until_the_keep_alive(follow: Follow) -> None:
    client = await follow.start()
    follow.audit.add()
    follow.announce()
    await until(lambda: len(client.events) == 1)
    follow.audit.add()
    follow.harness.tick(19)
    assert KEEP_ALIVE not in client.writes
    follow.harness.tick(21)
    await until(lambda: len(client.events) == 2)
    assert KEEP_ALIVE in client.writes


async def test_long_audit_is_sent_in_pages(follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_stream, "PAGE", 10)
    follow.audit.add(25)
    client = await follow.start()
    await until(lambda: len(client.events) == 25)
    assert follow.audit.reads == 3


async def test_client_with_a_full_socket_is_sent_no_more_and_then_aborted(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_stream, "PAGE", 10)
    follow.audit.add(25)
    client = Client(fills_on_write=True)
    follow.audit.reads = 1
    await follow.start(client=client)
    await until(lambda: follow.harness.hub.activities["blocked",])
    assert client.events == []
    follow.harness.tick(follow.harness.hub.settings.client_write_timeout_s + 1)
    await until(lambda: follow.harness.running == 0)
    assert client.was_aborted()


async def test_follower_waits_while_the_audit_is_away(follow: Follow) -> None:
    follow.audit.is_away = True
    client = await follow.start()
    follow.audit.add()
    follow.harness.tick()
    await until(lambda: follow.audit.reads == 2)
    follow.audit.is_away = False
    follow.harness.tick()
    await until(lambda: len(client.events) == 1)


async def test_withdrawn_key_ends_its_follower(follow: Follow) -> None:
    client = await follow.start()
    follow.harness.valid_owners.clear()
    follow.harness.tick(9)
    assert not client.was_aborted()
    follow.harness.tick(11)
    await until(lambda: follow.harness.running == 0)
    assert client.was_aborted()


async def test_stopping_process_asks_its_followers_to_come_back(follow: Follow) -> None:
    client = await follow.start()
    for connection in follow.harness.hub.connections:
        connection.drain()
    await until(lambda: client.completed)
    assert client.writes[-1].startswith(b"retry: ")


async def test_nothing_is_subscribed_without_followers(follow: Follow) -> None:
    subscriber = follow.harness.hub.subscriber
    clients = [await follow.start(), await follow.start()]
    assert list(connection_of(subscriber)._listeners) == [keys.AUDIT_ADDED.encode()]
    clients[0].disconnect()
    await until(lambda: follow.harness.running == 1)
    assert connection_of(subscriber)._listeners
    clients[1].disconnect()
    await until(lambda: follow.harness.running == 0)
    assert not connection_of(subscriber)._listeners
