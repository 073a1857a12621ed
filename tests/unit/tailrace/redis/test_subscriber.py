import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis

from tailrace.process.throttle import Throttle
from tailrace.redis import subscriber as subscriber_module
from tailrace.redis.connection import connect
from tailrace.redis.protocol import RedisProtocol
from tailrace.redis.subscriber import Subscriber
from tailrace_cli.embedded import EmbeddedServer

TIMEOUT_S = 10.0


class Listener:
    """A listener that keeps its messages until a test reads them."""

    def __init__(self) -> None:
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()

    def __call__(self, message: bytes | None) -> None:
        self._received.put_nowait(message)

    async def next(self) -> bytes | None:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._received.get()

    @property
    def has_more(self) -> bool:
        return not self._received.empty()


async def publish(redis: Redis, channel: str, message: bytes) -> int:
    return int(await redis.execute_command("SPUBLISH", channel, message))


async def until(condition: Callable[[], bool]) -> None:
    """Poll the condition: the subscriber has no event for it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT_S
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.005)


@pytest.fixture
async def subscriber(redis: Redis) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(redis)
    subscriber.start()
    yield subscriber
    await subscriber.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """One that may be stopped."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Redis]:
    client = connect(server.url)
    yield client
    await client.aclose()


@pytest.mark.parametrize("message", [b"text", b"", b"\x00\xff\r\n", b"x" * 1_000_000])
async def test_subscriber_receives_a_message_byte_for_byte(
    redis: Redis, subscriber: Subscriber, message: bytes
) -> None:
    listener = Listener()
    subscriber.add("channel", listener)
    assert await listener.next() is None
    assert await publish(redis, "channel", message) == 1
    assert await listener.next() == message


async def test_subscriber_receives_messages_in_order(redis: Redis, subscriber: Subscriber) -> None:
    listener = Listener()
    subscriber.add("channel", listener)
    await listener.next()
    sent = [str(n).encode() for n in range(1000)]
    for message in sent:
        await publish(redis, "channel", message)
    assert [await listener.next() for _ in sent] == sent


async def test_subscriber_with_a_throttle_reads_fast_messages_together_and_loses_none(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    received = RedisProtocol.data_received

    def counted(line: RedisProtocol, data: bytes) -> None:
        reads.append(len(data))
        received(line, data)

    monkeypatch.setattr(RedisProtocol, "data_received", counted)
    subscriber, listener = Subscriber(redis, Throttle(0.05, burst=1)), Listener()
    subscriber.start()
    subscriber.add("channel", listener)
    await listener.next()
    reads.clear()
    sent = [str(n).encode() for n in range(300)]
    for message in sent:
        await publish(redis, "channel", message)
    assert [await listener.next() for _ in sent] == sent
    assert len(reads) < 100
    await subscriber.close()


async def test_listener_receives_its_own_channel(redis: Redis, subscriber: Subscriber) -> None:
    listeners = {f"channel {n}": Listener() for n in range(5)}
    for channel, listener in listeners.items():
        subscriber.add(channel, listener)
    for listener in listeners.values():
        assert await listener.next() is None
    for channel in listeners:
        await publish(redis, channel, channel.encode())
    for channel, listener in listeners.items():
        assert await listener.next() == channel.encode()
        assert not listener.has_more


async def test_listener_added_before_the_connection_receives_an_empty_message(redis: Redis) -> None:
    subscriber, listener = Subscriber(redis), Listener()
    subscriber.add("channel", listener)
    connected = [subscriber.connected]
    subscriber.start()
    assert await listener.next() is None
    connected.append(subscriber.connected)
    await subscriber.close()
    assert [*connected, subscriber.connected] == [False, True, False]


async def test_listener_that_is_removed_receives_nothing_more(redis: Redis, subscriber: Subscriber) -> None:
    gone, there = Listener(), Listener()
    subscriber.add("gone", gone)
    subscriber.add("there", there)
    assert await gone.next() is await there.next() is None
    subscriber.remove("gone")
    subscriber.remove("gone")
    subscriber.remove("never there")
    subscriber.add("last", last := Listener())
    await last.next()
    assert await publish(redis, "gone", b"message") == 0
    await publish(redis, "there", b"message")
    assert await there.next() == b"message"
    assert not gone.has_more


async def test_listener_that_is_added_again_receives_an_empty_message_again(
    redis: Redis, subscriber: Subscriber
) -> None:
    for _ in range(3):
        listener = Listener()
        subscriber.add("channel", listener)
        assert await listener.next() is None
        await publish(redis, "channel", b"message")
        assert await listener.next() == b"message"
        subscriber.remove("channel")


async def test_subscriber_replaces_a_killed_connection_and_sends_every_listener_an_empty_message(
    redis: Redis, subscriber: Subscriber
) -> None:
    listeners = [Listener(), Listener()]
    for n, listener in enumerate(listeners):
        subscriber.add(f"channel {n}", listener)
        assert await listener.next() is None
    for _ in range(3):
        assert await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        for n, listener in enumerate(listeners):
            assert await listener.next() is None
            await publish(redis, f"channel {n}", b"message")
            assert await listener.next() == b"message"


async def test_subscriber_records_each_outage_at_the_moment_it_begins_and_ends(
    redis: Redis, subscriber: Subscriber
) -> None:
    listener = Listener()
    subscriber.add("channel", listener)
    assert await listener.next() is None
    transitions: list[float | None] = [subscriber.connected_at]
    for _ in range(3):
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not subscriber.connected)
        transitions.append(subscriber.disconnected_since)
        assert await listener.next() is None
        assert subscriber.connected
        transitions.append(subscriber.connected_at)
    moments = [moment for moment in transitions if moment is not None]
    assert len(moments) == 7
    assert moments == sorted(set(moments))


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_subscriber_survives_a_restart_of_the_server(server: EmbeddedServer, client: Redis, how: str) -> None:
    subscriber, listener = Subscriber(client), Listener()
    subscriber.start()
    subscriber.add("before", listener)
    assert await listener.next() is None
    getattr(server, how)()
    await until(lambda: not subscriber.connected)
    subscriber.add("meanwhile", other := Listener())
    server.start()
    assert await listener.next() is None
    assert await other.next() is None
    await publish(client, "before", b"message")
    await publish(client, "meanwhile", b"message")
    assert await listener.next() == await other.next() == b"message"
    await subscriber.close()


async def test_subscriber_waits_for_a_server_that_has_not_started(server: EmbeddedServer, client: Redis) -> None:
    server.stop()
    subscriber, listener = Subscriber(client), Listener()
    subscriber.add("channel", listener)
    subscriber.start()
    await until(lambda: subscriber._connection is not None)
    assert not subscriber.connected
    server.start()
    assert await listener.next() is None
    await subscriber.close()


async def test_subscriber_replaces_a_connection_that_is_silent(
    server: EmbeddedServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that neither answers nor closes, as after a pulled cable."""
    monkeypatch.setattr(subscriber_module, "PING_S", 0.05)
    subscriber, listener = Subscriber(client), Listener()
    subscriber.add("channel", listener)
    subscriber.start()
    assert await listener.next() is None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await until(lambda: not subscriber.connected)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await listener.next() is None
    await publish(client, "channel", b"message")
    assert await listener.next() == b"message"
    await subscriber.close()


async def test_subscriber_keeps_a_quiet_connection_that_answers_pings(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "PING_S", 0.02)
    listener = Listener()
    subscriber.add("channel", listener)
    await listener.next()
    line = subscriber._connection
    begun = (await redis.info("commandstats"))["cmdstat_ping"]["calls"]
    async with asyncio.timeout(TIMEOUT_S):
        while (await redis.info("commandstats"))["cmdstat_ping"]["calls"] < begun + 10:
            pass
    assert subscriber._connection is line
    assert not listener.has_more


async def test_subscriber_leaves_no_task_and_no_connection_when_closed(redis: Redis) -> None:
    subscriber, listener = Subscriber(redis), Listener()
    await subscriber.close()
    subscriber.add("channel", listener)
    subscriber.start()
    await listener.next()
    await subscriber.close()
    await subscriber.close()
    async with asyncio.timeout(TIMEOUT_S):
        while await publish(redis, "channel", b"message"):
            pass
    assert not listener.has_more


async def test_subscriber_subscribes_again_after_a_refusal(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    await redis.execute_command("ACL", "SETUSER", "deaf", "on", "nopass", "+@all", "resetchannels")
    port = redis.connection_pool.connection_kwargs["port"]
    client = connect(f"redis://deaf:any@127.0.0.1:{port}/0")
    subscriber, listener = Subscriber(client), Listener()
    subscriber.add("channel", listener)
    subscriber.start()
    await until(lambda: "NOPERM" in caplog.text or "No permissions" in caplog.text)
    await redis.execute_command("ACL", "SETUSER", "deaf", "allchannels")
    assert await listener.next() is None
    await subscriber.close()
    await client.aclose()
    await redis.execute_command("ACL", "DELUSER", "deaf")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_subscriber_receives_messages_over_tls(
    server: EmbeddedServer, certificate: tuple[Path, Path], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The embedded server knows no TLS: a proxy in front of it does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    lines: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", server.port)
        lines.append(writer)
        await asyncio.gather(pipe(reader, behind[1]), pipe(behind[0], writer), return_exceptions=True)

    async def listen() -> None:
        proxy = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        port = proxy.sockets[0].getsockname()[1]
        client = connect(f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false")
        plain = connect(server.url)
        subscriber, listener = Subscriber(client), Listener()
        subscriber.add("channel", listener)
        subscriber.start()
        for _ in range(2):
            assert await listener.next() is None
            await publish(plain, "channel", b"x" * 100_000)
            assert await listener.next() == b"x" * 100_000
            lines[-1].transport.abort()
        await subscriber.close()
        await client.aclose()
        await plain.aclose()
        proxy.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(listen())
