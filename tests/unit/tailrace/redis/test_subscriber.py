import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
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


class RecordingListener:
    """A listener whose messages can be awaited one by one."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()

    def __call__(self, message: bytes | None) -> None:
        self._messages.put_nowait(message)

    async def next(self) -> bytes | None:
        async with asyncio.timeout(TIMEOUT_S):
            return await self._messages.get()

    @property
    def has_more(self) -> bool:
        return not self._messages.empty()


async def publish(redis: Redis, channel: str, message: bytes) -> int:
    return int(await redis.execute_command("SPUBLISH", channel, message))


async def until(condition: Callable[[], bool]) -> None:
    """Poll the condition, because a subscriber does not signal its changes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + TIMEOUT_S
    while not condition():
        assert loop.time() < deadline
        await asyncio.sleep(0.005)


@asynccontextmanager
async def subscribed(
    redis: Redis, channel: str = "channel", throttle: Throttle | None = None
) -> AsyncIterator[tuple[Subscriber, RecordingListener]]:
    """A subscriber with a listener on one channel; not yet started, closed with the block."""
    subscriber, listener = Subscriber(redis, throttle), RecordingListener()
    subscriber.add(channel, listener)
    try:
        yield subscriber, listener
    finally:
        await subscriber.close()


@pytest.fixture
async def subscriber(redis: Redis) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(redis)
    subscriber.start()
    yield subscriber
    await subscriber.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that the test may stop."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Redis]:
    client = connect(server.url)
    yield client
    await client.aclose()


# messages


@pytest.mark.parametrize("message", [b"text", b"", b"\x00\xff\r\n", b"x" * 1_000_000])
async def test_listener_receives_messages_byte_for_byte(redis: Redis, subscriber: Subscriber, message: bytes) -> None:
    listener = RecordingListener()
    subscriber.add("channel", listener)
    assert await listener.next() is None
    assert await publish(redis, "channel", message) == 1
    assert await listener.next() == message


async def test_listener_receives_messages_in_order(redis: Redis, subscriber: Subscriber) -> None:
    listener = RecordingListener()
    subscriber.add("channel", listener)
    await listener.next()
    messages = [str(n).encode() for n in range(1000)]
    for message in messages:
        await publish(redis, "channel", message)
    assert [await listener.next() for _ in messages] == messages


async def test_throttled_subscriber_reads_fast_messages_together_and_loses_none(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    received = RedisProtocol.data_received

    def counted(protocol: RedisProtocol, data: bytes) -> None:
        reads.append(len(data))
        received(protocol, data)

    monkeypatch.setattr(RedisProtocol, "data_received", counted)
    async with subscribed(redis, throttle=Throttle(0.05, burst=1)) as (subscriber, listener):
        subscriber.start()
        await listener.next()
        reads.clear()
        messages = [str(n).encode() for n in range(300)]
        for message in messages:
            await publish(redis, "channel", message)
        assert [await listener.next() for _ in messages] == messages
        assert len(reads) < 100


async def test_listener_receives_its_own_channel_only(redis: Redis, subscriber: Subscriber) -> None:
    listeners = {f"channel {n}": RecordingListener() for n in range(5)}
    for channel, listener in listeners.items():
        subscriber.add(channel, listener)
    for listener in listeners.values():
        assert await listener.next() is None
    for channel in listeners:
        await publish(redis, channel, channel.encode())
    for channel, listener in listeners.items():
        assert await listener.next() == channel.encode()
        assert not listener.has_more


async def test_subscriptions_of_one_turn_are_one_write(subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    write = RedisProtocol.write

    def recorded(self: RedisProtocol, parts: Iterable[bytes]) -> None:
        writes.append(b"".join(parts))
        write(self, [writes[-1]])

    monkeypatch.setattr(RedisProtocol, "write", recorded)
    listeners = [RecordingListener() for _ in range(5)]
    for number, listener in enumerate(listeners):
        subscriber.add(f"{{{number}}}", listener)
    for listener in listeners:
        assert await listener.next() is None
    assert len(writes) == 1
    assert writes[0].count(b"SSUBSCRIBE") == 5


async def test_removed_listener_receives_nothing_more(redis: Redis, subscriber: Subscriber) -> None:
    removed, kept = RecordingListener(), RecordingListener()
    subscriber.add("removed", removed)
    subscriber.add("kept", kept)
    assert await removed.next() is await kept.next() is None
    subscriber.remove("removed")
    subscriber.remove("removed")
    subscriber.remove("never added")
    subscriber.add("last", last := RecordingListener())
    await last.next()
    assert await publish(redis, "removed", b"message") == 0
    await publish(redis, "kept", b"message")
    assert await kept.next() == b"message"
    assert not removed.has_more


async def test_listener_that_raises_leaves_the_other_listeners_and_the_connection_alone(
    redis: Redis, subscriber: Subscriber, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(message: bytes | None) -> None:
        raise ZeroDivisionError

    subscriber.add("failing", failing)
    subscriber.add("channel", listener := RecordingListener())
    assert await listener.next() is None
    connection = subscriber._connection
    await publish(redis, "failing", b"message")
    await publish(redis, "channel", b"message")
    assert await listener.next() == b"message"
    assert subscriber._connection is connection
    assert caplog.text.count("the listener of failing failed") == 2


# "messages may have been missed"


async def test_listener_added_before_the_connection_is_called_with_none(redis: Redis) -> None:
    async with subscribed(redis) as (subscriber, listener):
        connected = [subscriber.connected]
        subscriber.start()
        assert await listener.next() is None
        connected.append(subscriber.connected)
    assert [*connected, subscriber.connected] == [False, True, False]


async def test_listener_added_again_is_called_with_none_again(redis: Redis, subscriber: Subscriber) -> None:
    for _ in range(3):
        listener = RecordingListener()
        subscriber.add("channel", listener)
        assert await listener.next() is None
        await publish(redis, "channel", b"message")
        assert await listener.next() == b"message"
        subscriber.remove("channel")


async def test_listeners_are_called_with_none_after_every_reconnection(redis: Redis, subscriber: Subscriber) -> None:
    listeners = [RecordingListener(), RecordingListener()]
    for n, listener in enumerate(listeners):
        subscriber.add(f"channel {n}", listener)
        assert await listener.next() is None
    for _ in range(3):
        assert await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        for n, listener in enumerate(listeners):
            assert await listener.next() is None
            await publish(redis, f"channel {n}", b"message")
            assert await listener.next() == b"message"


# the connection


async def test_subscriber_records_each_outage_at_the_moment_it_begins_and_ends(
    redis: Redis, subscriber: Subscriber
) -> None:
    listener = RecordingListener()
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
    async with subscribed(client, "before") as (subscriber, listener):
        subscriber.start()
        assert await listener.next() is None
        getattr(server, how)()
        await until(lambda: not subscriber.connected)
        subscriber.add("meanwhile", other := RecordingListener())
        server.start()
        assert await listener.next() is None
        assert await other.next() is None
        await publish(client, "before", b"message")
        await publish(client, "meanwhile", b"message")
        assert await listener.next() == await other.next() == b"message"


async def test_subscriber_waits_for_a_server_that_is_not_there_yet(server: EmbeddedServer, client: Redis) -> None:
    server.stop()
    async with subscribed(client) as (subscriber, listener):
        subscriber.start()
        await until(lambda: subscriber._connection is not None)
        assert not subscriber.connected
        server.start()
        assert await listener.next() is None


async def test_subscriber_notices_a_server_that_neither_replies_nor_closes(
    server: EmbeddedServer, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a cable is pulled."""
    monkeypatch.setattr(subscriber_module, "PING_S", 0.05)
    async with subscribed(client) as (subscriber, listener):
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


async def test_subscriber_keeps_a_silent_connection_whose_server_replies(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "PING_S", 0.02)
    listener = RecordingListener()
    subscriber.add("channel", listener)
    await listener.next()
    connection = subscriber._connection
    begun = (await redis.info("commandstats"))["cmdstat_ping"]["calls"]
    async with asyncio.timeout(TIMEOUT_S):
        while (await redis.info("commandstats"))["cmdstat_ping"]["calls"] < begun + 10:
            pass
    assert subscriber._connection is connection
    assert not listener.has_more


async def test_subscriber_reconnects_after_an_error_that_is_not_expected(
    redis: Redis, subscriber: Subscriber, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber.add("channel", listener := RecordingListener())
    assert await listener.next() is None
    assert subscriber._protocol is not None
    subscriber._protocol.cut(ZeroDivisionError("a defect"))
    assert await listener.next() is None
    await publish(redis, "channel", b"message")
    assert await listener.next() == b"message"
    assert any(each.exc_info and each.exc_info[0] is ZeroDivisionError for each in caplog.records)


async def test_subscriber_survives_connections_that_can_be_neither_made_nor_closed(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse_to_close(nowait: bool = False) -> None:
        await close(nowait=nowait)
        raise ZeroDivisionError("a defect")

    def refuse_to_connect() -> None:
        raise TypeError("an unknown option of the URL")

    subscriber.add("channel", listener := RecordingListener())
    assert await listener.next() is None
    close = subscriber._connection.disconnect
    with monkeypatch.context() as patched:
        patched.setattr(redis.connection_pool, "make_connection", refuse_to_connect)
        patched.setattr(subscriber._connection, "disconnect", refuse_to_close)
        assert subscriber._protocol is not None
        subscriber._protocol.cut(EOFError())
        await until(lambda: subscriber._failures > 2)
        assert not subscriber.connected
    assert await listener.next() is None
    assert subscriber.connected


async def test_subscriber_is_not_connected_while_its_subscriptions_are_refused(
    redis: Redis, subscriber: Subscriber, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber.add("channel", listener := RecordingListener())
    assert await listener.next() is None
    await redis.execute_command("ACL", "SETUSER", "default", "-ssubscribe")
    try:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: subscriber._failures > 2)
        since = subscriber.disconnected_since
        assert since is not None
        await until(lambda: subscriber._failures > 4)
        assert subscriber.disconnected_since == since
        assert len(caplog.records) == 1
    finally:
        await redis.execute_command("ACL", "SETUSER", "default", "+ssubscribe")
    assert await listener.next() is None
    assert subscriber.connected


async def test_subscriber_leaves_nothing_behind_when_it_is_closed(redis: Redis) -> None:
    async with subscribed(redis) as (subscriber, listener):
        await subscriber.close()
        subscriber.start()
        await listener.next()
        await subscriber.close()
        await subscriber.close()
        async with asyncio.timeout(TIMEOUT_S):
            while await publish(redis, "channel", b"message"):
                pass
        assert not listener.has_more


async def test_subscriber_repeats_a_subscription_that_the_server_refused(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.execute_command("ACL", "SETUSER", "limited", "on", "nopass", "+@all", "resetchannels")
    port = redis.connection_pool.connection_kwargs["port"]
    client = connect(f"redis://limited:any@127.0.0.1:{port}/0")
    try:
        async with subscribed(client) as (subscriber, listener):
            subscriber.start()
            await until(lambda: "NOPERM" in caplog.text or "No permissions" in caplog.text)
            await redis.execute_command("ACL", "SETUSER", "limited", "allchannels")
            assert await listener.next() is None
    finally:
        await client.aclose()
        await redis.execute_command("ACL", "DELUSER", "limited")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed; it makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def tls_proxy(port: int, context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """A TLS proxy for a port, because the embedded server has no TLS: its own port, and its clients' connections."""
    connections: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", port)
        connections.append(writer)
        await asyncio.gather(pipe(reader, behind[1]), pipe(behind[0], writer), return_exceptions=True)

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield proxy.sockets[0].getsockname()[1], connections
    finally:
        proxy.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_subscriber_receives_over_tls(
    server: EmbeddedServer, certificate: tuple[Path, Path], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def receive() -> None:
        async with tls_proxy(server.port, context) as (port, connections):
            client = connect(f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none&ssl_check_hostname=false")
            plain = connect(server.url)
            try:
                async with subscribed(client) as (subscriber, listener):
                    subscriber.start()
                    for _ in range(2):
                        assert await listener.next() is None
                        await publish(plain, "channel", b"x" * 100_000)
                        assert await listener.next() == b"x" * 100_000
                        connections[-1].transport.abort()
            finally:
                await client.aclose()
                await plain.aclose()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(receive())


# many channels


async def test_channels_are_subscribed_anew_by_slot_and_some_at_a_time(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "AT_ONCE", 4)
    tags = ["{a}", "{b}", "{c}", "{d}", "{e}"]
    channels = [f"{tag}:{number}" for number in range(3) for tag in tags]
    listeners = {channel: RecordingListener() for channel in channels}
    for channel, listener in listeners.items():
        subscriber.add(channel, listener)
        assert await listener.next() is None
    sent: list[tuple[str, ...]] = []
    send = Subscriber._send

    def sending(self: Subscriber, command: str, *names: str | bytes) -> None:
        sent.append((command, *(name if isinstance(name, str) else name.decode() for name in names)))
        if len(sent) == 1:
            self.remove("{e}:1")  # before its turn has come
        send(self, command, *names)

    monkeypatch.setattr(Subscriber, "_send", sending)
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for channel, listener in listeners.items():
        if channel != "{e}:1":
            assert await listener.next() is None
            assert await publish(redis, channel, b"message") == 1
            assert await listener.next() == b"message"
    assert await publish(redis, "{e}:1", b"message") == 0
    expected = {tag: {f"{tag}:{number}" for number in range(3)} for tag in tags}
    expected["{e}"].discard("{e}:1")
    subscriptions = [set(names) for command, *names in sent if command == "SSUBSCRIBE"]
    assert subscriptions == list(expected.values())
    assert [command for command, *_ in sent].index("PING") == 3  # behind what one turn may subscribe to


async def test_resubscription_ends_with_its_connection(
    redis: Redis, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "AT_ONCE", 1)
    monkeypatch.setattr(subscriber_module, "PAUSE_S", 0.02)
    listeners = {f"{{{number}}}": RecordingListener() for number in range(5)}
    for channel, listener in listeners.items():
        subscriber.add(channel, listener)
        assert await listener.next() is None
    first = listeners["{0}"]
    for _ in range(3):
        await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert await first.next() is None
    for channel, listener in listeners.items():
        while await publish(redis, channel, b"message") != 1:
            pass
        while await listener.next() != b"message":
            pass
