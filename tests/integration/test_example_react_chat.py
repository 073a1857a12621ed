"""`examples/react-chat/serve.mjs` in front of a listener: where it sends the API key, and which requests it refuses."""

import asyncio
import shutil
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from support import npm
from tailrace_cli.children import die_with_parent

SERVER = Path(__file__).parents[2] / "examples" / "react-chat" / "serve.mjs"
KEY = "page-key-1"
PUBLIC = "https://chat.example.com"
LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]
CHAT = "/api/chat/c1/messages"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: serve.mjs is not tested"),
    pytest.mark.asyncio(loop_scope="module"),
]


class Listener:
    """A server that answers 200 and records the first bytes of each connection: the head of a request."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.host = ""

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator["Listener"]:
        listener = cls()
        async with await asyncio.start_server(listener._serve, "127.0.0.1") as server:
            listener.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield listener

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.heads.append((await reader.read(65536)).decode("latin-1"))
        writer.write(ANSWER)
        writer.close()


class Site:
    """The running `serve.mjs`, and the listener that it takes for Tailrace."""

    def __init__(self, url: str, tailrace: Listener) -> None:
        self.port = urlsplit(url).port
        self.tailrace = tailrace

    async def status(self, target: str, method: str = "GET", **headers: str) -> int:
        """The status of a request whose target is sent as it is."""
        fields = {"Host": f"localhost:{self.port}", "Connection": "close"} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])


@asynccontextmanager
async def serving(folder: Path, tailrace: Listener, scheme: str = "http") -> AsyncIterator[Site]:
    """`serve.mjs` with a page of one word: it runs without npm's packages."""
    shutil.copy(SERVER, folder)
    (folder / "dist").mkdir()
    (folder / "dist" / "index.html").write_text("page")
    environment = npm.environment(
        PORT="0", TAILRACE_URL=f"{scheme}://{tailrace.host}", TAILRACE_KEY=KEY, PUBLIC_URL=PUBLIC
    )
    process = await asyncio.create_subprocess_exec(
        "node", "serve.mjs", cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    assert process.stdout is not None
    try:
        yield Site((await process.stdout.readline()).decode().strip(), tailrace)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with Listener.started() as tailrace, serving(tmp_path_factory.mktemp("site"), tailrace) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Site:
    running.tailrace.heads.clear()
    return running


async def test_request_reaches_tailrace_with_the_key_and_its_own_path(site: Site) -> None:
    assert await site.status("/api/chat/a%2Fb/stream?x=1", Authorization="Bearer visitor") == 200
    (head,) = site.tailrace.heads
    assert head.startswith("GET /api/chat/a%2Fb/stream?x=1 HTTP/1.1\r\n")
    assert f"host: {site.tailrace.host}\r\n" in head
    assert f"authorization: Bearer {KEY}\r\n" in head
    assert "visitor" not in head


@pytest.mark.parametrize("target", ["//{}/api/chat", "http://{}/api/chat", "http://{}/api/chat/c1/messages"])
async def test_key_is_never_sent_to_a_host_of_the_request_target(site: Site, target: str) -> None:
    async with Listener.started() as other:
        assert await site.status(target.format(other.host)) == 404
        assert other.heads == []
    assert site.tailrace.heads == []


@pytest.mark.parametrize(
    "path",
    ["/api/chatter", "/api/chat/../../v1/generations", "/api/chat/%2e%2e/%2e%2e/v1/generations", "/v1/generations"],
)
async def test_path_beside_the_chat_is_not_forwarded(site: Site, path: str) -> None:
    assert await site.status(path) == 404
    assert site.tailrace.heads == []


@pytest.mark.parametrize("target", ["//", "http://[/", "//[/api/chat"])
async def test_malformed_target_leaves_the_server_running(site: Site, target: str) -> None:
    assert await site.status(target) in (400, 404)
    assert await site.status("/") == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://chat.example.com"])
async def test_page_of_another_origin_is_refused(site: Site, origin: str) -> None:
    assert await site.status("/api/chat", "POST", Origin=origin) == 403
    assert await site.status("/api/chat/c1/stop", "POST", Origin=origin) == 403
    assert site.tailrace.heads == []


@pytest.mark.parametrize("host", ["evil.example:{}", "evil.example", "localhost", "127.0.0.1:1", "localhost.evil:{}"])
async def test_request_for_another_host_is_refused(site: Site, host: str) -> None:
    assert await site.status(CHAT, Host=host.format(site.port)) == 403
    assert await site.status("/", Host=host.format(site.port)) == 403
    assert site.tailrace.heads == []


@pytest.mark.parametrize("name", LOCAL_NAMES)
async def test_own_page_is_served_and_forwarded_without_its_origin(site: Site, name: str) -> None:
    host = f"{name}:{site.port}"
    assert await site.status("/", Host=host) == 200
    assert await site.status("/api/chat", "POST", Host=host, Origin=f"http://{host}") == 200
    (head,) = site.tailrace.heads
    assert "origin:" not in head.lower()


async def test_page_at_the_public_url_is_forwarded(site: Site) -> None:
    assert await site.status("/api/chat", "POST", Host="chat.example.com", Origin=PUBLIC) == 200
    assert len(site.tailrace.heads) == 1


async def test_https_url_of_tailrace_is_reached_by_tls_only(tmp_path: Path) -> None:
    async with Listener.started() as tailrace, serving(tmp_path, tailrace, scheme="https") as site:
        assert await site.status(CHAT) == 502, "the listener has no TLS"
        (hello,) = tailrace.heads
        assert hello.startswith("\x16\x03"), "RFC 8446, 5.1: a handshake record"
        assert KEY not in hello
        assert await site.status("/") == 200


@pytest.mark.parametrize("name", ["PUBLIC_URL", "TAILRACE_URL"])
async def test_url_without_a_scheme_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    shutil.copy(SERVER, tmp_path)
    environment = npm.environment(PORT="0", **{name: "chat.example.com:8443"})
    process = await asyncio.create_subprocess_exec(
        "node", "serve.mjs", cwd=tmp_path, env=environment, stderr=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    _, problems = await process.communicate()
    assert b"does not begin with http:// or https://" in problems
