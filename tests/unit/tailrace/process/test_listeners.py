"""Sockets that a child process inherits to listen on."""

import os
import socket
import subprocess
import sys

import pytest

from tailrace.process.listeners import environment_for, inherited_listeners
from tailrace.settings import LISTENERS

ANSWER = """
from tailrace.process.listeners import inherited_listeners
first, second = inherited_listeners()
for each in (first, second):
    connection, _ = each.accept()
    connection.sendall(b"inherited")
    connection.close()
"""


def test_process_without_inherited_sockets_binds_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv(LISTENERS, raising=False)
        if value is not None:
            monkeypatch.setenv(LISTENERS, value)
        assert inherited_listeners() is None


def test_child_accepts_connections_that_were_made_before_its_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        clients = [socket.create_connection(each.getsockname()) for each in (first, second)]
        subprocess.run(
            [sys.executable, "-c", ANSWER], check=True, env=os.environ | environment_for([first, second]),
            pass_fds=[first.fileno(), second.fileno()], timeout=20,
        )  # fmt: skip
        assert [each.recv(100) for each in clients] == [b"inherited"] * 2
        for each in clients:
            each.close()
