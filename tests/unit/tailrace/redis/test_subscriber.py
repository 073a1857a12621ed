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

PATIENCE_S = 10.0


class Ear:
    """A listener that can be asked what it is told next."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[bytes | None] = asyncio.Queue()

    def __call__(self, message: bytes | None) -> None:
        self._told.put_nowait(message)

    async def next(self) -> bytes | None:
        async with asyncio.timeout(PATIENCE_S):
            return await self._told.get()

    @property
    def has_more(self) -> bool:
        return not self._told.empty()


async def publish(redis: Redis, channel: str, message: bytes) -> int:
    return int(await redis.execute_command("SPUBLISH", channel, message))


async def until(condition: Callable[[], bool]) -> None:
    """The subscriber has no event for it: look whenever the loop comes round."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
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
async def test_it_hears_what_is_said_byte_for_byte(redis: Redis, subscriber: Subscriber, message: bytes) -> None:
    ear = Ear()
    subscriber.add("channel", ear)
    assert await ear.next() is None
    assert await publish(redis, "channel", message) == 1
    assert await ear.next() == message


async def test_it_hears_in_order(redis: Redis, subscriber: Subscriber) -> None:
    ear = Ear()
    subscriber.add("channel", ear)
    await ear.next()
    said = [str(n).encode() for n in range(1000)]
    for message in said:
        await publish(redis, "channel", message)
    assert [await ear.next() for _ in said] == said


async def test_a_throttled_subscriber_reads_fast_messages_together_and_loses_none(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    received = RedisProtocol.data_received

    def counted(line: RedisProtocol, data: bytes) -> None:
        reads.append(len(data))
        received(line, data)

    monkeypatch.setattr(RedisProtocol, "data_received", counted)
    subscriber, ear = Subscriber(redis, Throttle(0.05, burst=1)), Ear()
    subscriber.start()
    subscriber.add("channel", ear)
    await ear.next()
    reads.clear()
    said = [str(n).encode() for n in range(300)]
    for message in said:
        await publish(redis, "channel", message)
    assert [await ear.next() for _ in said] == said
    assert len(reads) < 100
    await subscriber.close()


async def test_each_listener_hears_its_own_channel(redis: Redis, subscriber: Subscriber) -> None:
    ears = {f"channel {n}": Ear() for n in range(5)}
    for channel, ear in ears.items():
        subscriber.add(channel, ear)
    for ear in ears.values():
        assert await ear.next() is None
    for channel in ears:
        await publish(redis, channel, channel.encode())
    for channel, ear in ears.items():
        assert await ear.next() == channel.encode()
        assert not ear.has_more


async def test_a_listener_that_was_there_before_the_connection_is_told_to_look(redis: Redis) -> None:
    subscriber, ear = Subscriber(redis), Ear()
    subscriber.add("channel", ear)
    connected = [subscriber.connected]
    subscriber.start()
    assert await ear.next() is None
    connected.append(subscriber.connected)
    await subscriber.close()
    assert [*connected, subscriber.connected] == [False, True, False]


async def test_who_is_removed_hears_nothing_more(redis: Redis, subscriber: Subscriber) -> None:
    gone, there = Ear(), Ear()
    subscriber.add("gone", gone)
    subscriber.add("there", there)
    assert await gone.next() is await there.next() is None
    subscriber.remove("gone")
    subscriber.remove("gone")
    subscriber.remove("never there")
    subscriber.add("last", last := Ear())
    await last.next()
    assert await publish(redis, "gone", b"message") == 0
    await publish(redis, "there", b"message")
    assert await there.next() == b"message"
    assert not gone.has_more


async def test_a_listener_that_comes_back_is_told_to_look_again(redis: Redis, subscriber: Subscriber) -> None:
    for _ in range(3):
        ear = Ear()
        subscriber.add("channel", ear)
        assert await ear.next() is None
        await publish(redis, "channel", b"message")
        assert await ear.next() == b"message"
        subscriber.remove("channel")


async def test_a_killed_connection_is_made_anew_and_everybody_told_to_look(
    redis: Redis, subscriber: Subscriber
) -> None:
    ears = [Ear(), Ear()]
    for n, ear in enumerate(ears):
        subscriber.add(f"channel {n}", ear)
        assert await ear.next() is None
    for _ in range(3):
        assert await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        for n, ear in enumerate(ears):
            assert await ear.next() is None
            await publish(redis, f"channel {n}", b"message")
            assert await ear.next() == b"message"


async def test_subscriber_records_each_outage_at_the_moment_it_begins_and_ends(
    redis: Redis, subscriber: Subscriber
) -> None:
    ear = Ear()
    subscriber.add("channel", ear)
    assert await ear.next() is None
    transitions: list[float | None] = [subscriber.connected_at]
    for _ in range(3):
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not subscriber.connected)
        transitions.append(subscriber.disconnected_since)
        assert await ear.next() is None
        assert subscriber.connected
        transitions.append(subscriber.connected_at)
    moments = [moment for moment in transitions if moment is not None]
    assert len(moments) == 7
    assert moments == sorted(set(moments))


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_it_survives_a_restart_of_the_server(server: EmbeddedServer, client: Redis, how: str) -> None:
    subscriber, ear = Subscriber(client), Ear()
    subscriber.start()
    subscriber.add("before", ear)
    assert await ear.next() is None
    getattr(server, how)()
    await until(lambda: not subscriber.connected)
    subscriber.add("meanwhile", other := Ear())
    server.start()
    assert await ear.next() is None
    assert await other.next() is None
    await publish(client, "before", b"message")
    await publish(client, "meanwhile", b"message")
    assert await ear.next() == await other.next() == b"message"
    await subscriber.close()


async def test_it_waits_for_a_server_that_is_not_there_yet(server: EmbeddedServer, client: Redis) -> None:
    server.stop()
    subscriber, ear = Subscriber(client), Ear()
    subscriber.add("channel", ear)
    subscriber.start()
    await until(lambda: subscriber._connection is not None)
    assert not subscriber.connected
    server.start()
    assert await ear.next() is None
    await subscriber.close()


async def test_a_silent_line_is_noticed(server: EmbeddedServer, client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that neither answers nor hangs up: a cable that was pulled looks like this."""
    monkeypatch.setattr(subscriber_module, "PING_S", 0.05)
    subscriber, ear = Subscriber(client), Ear()
    subscriber.add("channel", ear)
    subscriber.start()
    assert await ear.next() is None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await until(lambda: not subscriber.connected)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert await ear.next() is None
    await publish(client, "channel", b"message")
    assert await ear.next() == b"message"
    await subscriber.close()


async def test_a_quiet_line_that_answers_is_kept(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "PING_S", 0.02)
    ear = Ear()
    subscriber.add("channel", ear)
    await ear.next()
    line = subscriber._connection
    begun = (await redis.info("commandstats"))["cmdstat_ping"]["calls"]
    async with asyncio.timeout(PATIENCE_S):
        while (await redis.info("commandstats"))["cmdstat_ping"]["calls"] < begun + 10:
            pass
    assert subscriber._connection is line
    assert not ear.has_more


async def test_closing_leaves_nothing_behind(redis: Redis) -> None:
    subscriber, ear = Subscriber(redis), Ear()
    await subscriber.close()
    subscriber.add("channel", ear)
    subscriber.start()
    await ear.next()
    await subscriber.close()
    await subscriber.close()
    async with asyncio.timeout(PATIENCE_S):
        while await publish(redis, "channel", b"message"):
            pass
    assert not ear.has_more


async def test_a_server_that_refuses_to_be_listened_to_is_asked_again(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.execute_command("ACL", "SETUSER", "deaf", "on", "nopass", "+@all", "resetchannels")
    port = redis.connection_pool.connection_kwargs["port"]
    client = connect(f"redis://deaf:any@127.0.0.1:{port}/0")
    subscriber, ear = Subscriber(client), Ear()
    subscriber.add("channel", ear)
    subscriber.start()
    await until(lambda: "NOPERM" in caplog.text or "No permissions" in caplog.text)
    await redis.execute_command("ACL", "SETUSER", "deaf", "allchannels")
    assert await ear.next() is None
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
def test_it_hears_through_tls_too(
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
        subscriber, ear = Subscriber(client), Ear()
        subscriber.add("channel", ear)
        subscriber.start()
        for _ in range(2):
            assert await ear.next() is None
            await publish(plain, "channel", b"x" * 100_000)
            assert await ear.next() == b"x" * 100_000
            lines[-1].transport.abort()
        await subscriber.close()
        await client.aclose()
        await plain.aclose()
        proxy.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(listen())
