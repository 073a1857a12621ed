import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace_cli import health

ANSWERS: dict[str, tuple[int, bytes]] = {
    "/livez": (200, b"{}"),
    "/readyz": (503, b'{"error": {"message": "Redis cannot be reached.", "code": "unavailable"}}'),
}


class Handler(BaseHTTPRequestHandler):
    answers = ANSWERS

    def do_GET(self) -> None:
        status, body = self.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nowhere."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("role", ["frontend", "worker"])
def test_live_process_is_ok(port: int, role: str, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    address = f"{host}:{port}"
    settings = Settings(operations_address=address, worker_operations_address=address)
    assert health.main(settings, role=role, is_readiness=False) == 0
    assert capsys.readouterr().out == "ok\n"


def test_frontend_without_an_operations_address_is_asked_at_its_own(port: int) -> None:
    assert health.main(Settings(port=port), role="frontend", is_readiness=False) == 0


def test_process_that_is_not_ready_gives_its_reason(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main(Settings(port=port), role="frontend", is_readiness=True) == 1
    assert capsys.readouterr().err == "tailrace health: Redis cannot be reached.\n"


def test_answer_of_another_program_is_its_status(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "answers", {"/readyz": (502, b"<html>")})
    assert health.main(Settings(port=port), role="frontend", is_readiness=True) == 1
    assert capsys.readouterr().err == "tailrace health: status 502 Bad Gateway\n"


def test_process_that_does_not_answer_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert health.main(Settings(port=port), role="frontend", is_readiness=False) == 1
    assert f"http://127.0.0.1:{port}/livez does not answer" in capsys.readouterr().err


def test_worker_without_an_operations_address_cannot_be_asked() -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_WORKER_OPERATIONS_ADDRESS is empty"):
        health.main(Settings(), role="worker", is_readiness=False)
