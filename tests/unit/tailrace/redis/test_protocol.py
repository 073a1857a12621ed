from types import SimpleNamespace
from typing import Any

import pytest

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
