"""The ports of `tailrace dev`: bound before anything else, and what is reported where one is taken."""

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tailrace.errors import Misconfigured
from tailrace_cli import ports
from tailrace_cli.embedded import free_port

LOOPBACK = "127.0.0.1"
Serve = Callable[[dict[str, str]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(pages)` starts an HTTP server with these pages; its port."""
    servers = []

    def serve(pages: dict[str, str]) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = pages.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write((content or "").encode())

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer((LOOPBACK, 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return int(server.server_address[1])

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_bound_port_accepts_connections_before_any_process_serves_it() -> None:
    with ports.bind(LOOPBACK, 0) as port:
        socket.create_connection((LOOPBACK, port.number), timeout=1).close()
        assert port.url == f"http://127.0.0.1:{port.number}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((LOOPBACK, port.number), timeout=1)


def test_localhost_is_bound_on_all_its_addresses_with_one_port() -> None:
    with ports.bind("localhost", 0) as port:
        assert {each.getsockname()[1] for each in port.sockets} == {port.number}
        assert port.url == f"http://localhost:{port.number}"
        for each in port.sockets:
            socket.create_connection(each.getsockname()[:2], timeout=1).close()


def test_address_that_the_machine_lacks_is_left_out_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("192.0.2.1", LOOPBACK)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with ports.bind("localhost", 0) as port:
        assert [each.getsockname() for each in port.sockets] == [(LOOPBACK, port.number)]


@pytest.mark.parametrize("host", ["192.0.2.1", "nosuchhost.invalid"])
def test_host_that_this_machine_is_not_is_refused_with_its_name(host: str) -> None:
    with pytest.raises(Misconfigured, match=rf"cannot listen on {host}:8080: \w+"):
        ports.bind(host, 8080)


def test_port_that_the_user_may_not_have_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(ports, "_listener", refuse)
    with pytest.raises(Misconfigured, match=r"cannot listen on 127\.0\.0\.1:80: Permission denied"):
        ports.bind(LOOPBACK, 80, is_chosen=False)


def test_chosen_port_that_is_taken_is_refused_and_names_its_holder(serve: Serve) -> None:
    for pages, holder in (
        ({"/dev": '{"worker": {"pid": 7, "restarts": 0}, "dev": {"pid": 4711, "restarts": 0}}'},
         r"another `tailrace dev` \(pid 4711\)"),
        ({"/tailrace.js": "/* Tailrace in the browser */"}, "another Tailrace"),
        ({"/dev": "[]", "/tailrace.js": "something else"}, "another program"),
        ({}, "another program"),
    ):  # fmt: skip
        port = serve(pages)
        with pytest.raises(Misconfigured, match=rf"^port {port} is taken by {holder}; choose another with --port$"):
            ports.bind(LOOPBACK, port)


def test_holder_that_does_not_answer_is_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ASK_S", 0.05)
    with (
        ports.bind(LOOPBACK, 0) as silent,
        pytest.raises(Misconfigured, match="is taken by another program; choose another with --port"),
    ):
        ports.bind(LOOPBACK, silent.number)


def test_holder_that_speaks_no_http_is_another_program() -> None:
    def answer(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with socket.create_server((LOOPBACK, 0)) as listener:
        answering = threading.Thread(target=answer, args=(listener,), daemon=True)
        answering.start()
        assert ports.describe_holder(LOOPBACK, listener.getsockname()[1]) == "another program"
        answering.join()


def test_port_that_was_not_chosen_gives_way_to_the_next_free_one(serve: Serve) -> None:
    wanted = serve({"/tailrace.js": "Tailrace"})
    with ports.bind(LOOPBACK, wanted, is_chosen=False) as first:
        assert wanted < first.number < wanted + ports.TRIES
        assert first.taken_by == "another Tailrace"
        with ports.bind(LOOPBACK, wanted, is_chosen=False) as second:
            assert second.number > first.number


def test_free_port_is_taken_as_it_is() -> None:
    wanted = free_port()
    with ports.bind(LOOPBACK, wanted, is_chosen=False) as port:
        assert (port.number, port.taken_by) == (wanted, "")


def test_range_of_taken_ports_is_reported(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = serve({})
    monkeypatch.setattr(ports, "TRIES", 2)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Misconfigured):  # another program of this machine may have it
            stack.enter_context(ports.bind(LOOPBACK, wanted + 1))
        with pytest.raises(Misconfigured, match=rf"the ports {wanted} to {wanted + 1} are taken; choose another"):
            ports.bind(LOOPBACK, wanted, is_chosen=False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_url_is_one_that_a_browser_of_this_machine_opens(host: str, expected: str) -> None:
    assert ports.url_of(host, 80) == expected
