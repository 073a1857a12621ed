import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from support.hub_harness import Transport
from tailrace.process.throttle import Throttle
from tailrace.redis.protocol import RedisProtocol


class ReadingTransport(Transport):
    """A socket that a protocol can take over, and that records whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.BaseProtocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def pause_reading(self) -> None:
        self.reads.append("pause")

    def resume_reading(self) -> None:
        self.reads.append("resume")


def connection_on(transport: Transport, *, at_eof: bool = False) -> Any:
    """A connection of redis-py's, as far as the protocol knows it."""
    return SimpleNamespace(_writer=SimpleNamespace(transport=transport), _reader=SimpleNamespace(at_eof=lambda: at_eof))


@pytest.mark.parametrize("lost", ["closing", "at its end"])
def test_connection_lost_while_opening_is_not_taken_over_and_reports_nothing_later(lost: str) -> None:
    transport = Transport()
    transport.aborted = lost == "closing"
    errors: list[Exception] = []
    with pytest.raises(ConnectionResetError):  # this transport has no protocol to take over from
        RedisProtocol(connection_on(transport, at_eof=lost == "at its end"), print, errors.append)
    assert errors == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_write_after_the_loss_has_no_effect(
    new_loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    async def write_before_and_after_the_report() -> None:
        near, far = socket.socketpair()
        with far:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            connection: Any = SimpleNamespace(
                _writer=SimpleNamespace(transport=transport), _reader=SimpleNamespace(at_eof=lambda: False)
            )
            lost: asyncio.Future[Exception] = loop.create_future()
            protocol = RedisProtocol(connection, print, lost.set_result)
            transport.abort()
            for _ in range(20):
                protocol.write([b"x"])
            assert isinstance(await lost, ConnectionResetError)
            protocol.write([b"x"])
            assert far.recv(1) == b""

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(write_before_and_after_the_report())
    assert [record.message for record in caplog.records] == []


@pytest.mark.parametrize("is_cut", [False, True])
async def test_throttled_socket_is_read_again_after_the_interval_unless_it_was_closed(is_cut: bool) -> None:
    transport, errors = ReadingTransport(), list[Exception]()
    protocol = RedisProtocol(connection_on(transport), print, errors.append, Throttle(0.01, burst=0))
    protocol.data_received(b"+OK\r\n")
    assert transport.reads == ["pause"]
    if is_cut:
        protocol.cut(ConnectionResetError("cut"))
    await asyncio.sleep(0.05)
    assert transport.reads == (["pause"] if is_cut else ["pause", "resume"])
    assert len(errors) == is_cut
