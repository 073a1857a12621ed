import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop

from support.hub_harness import Transport
from tailrace.redis.protocol import RedisProtocol


@pytest.mark.parametrize("lost", ["closing", "at its end"])
def test_connection_lost_while_opening_is_not_taken_over_and_reports_nothing_later(lost: str) -> None:
    transport = Transport()
    transport.aborted = lost == "closing"
    connection: Any = SimpleNamespace(
        _writer=SimpleNamespace(transport=transport), _reader=SimpleNamespace(at_eof=lambda: lost == "at its end")
    )
    errors: list[Exception] = []
    with pytest.raises(ConnectionResetError):
        RedisProtocol(connection, print, errors.append)  # this transport has no protocol to take over from
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
