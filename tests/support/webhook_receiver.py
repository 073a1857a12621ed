"""A receiver of webhooks, which answers as the path asks for and records each request.

    /ok           200
    /status/503   that status
    /fail/2       500 to the first two tries of each webhook, then 200
    /redirect     302 to /ok
    /large        200, and a body that does not end
    /silent       nothing, ever

What follows in the path changes nothing.

As a program it records to a file: `PYTHONPATH=tests python -m support.webhook_receiver PORT FILE`.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Any, NamedTuple

from aiohttp import web

from support.api import eventually
from tailrace_cli.children import die_with_parent


class Received(NamedTuple):
    """One request: its path, its headers by lower-case name, its body."""

    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)


Record = Callable[[Received], object]


def application(record: Record) -> web.Application:
    tries: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        record(Received(request.path, headers, await request.text()))
        tries[headers.get("webhook-id", "")] += 1
        match request.path.strip("/").split("/"):
            case ["status", status, *_]:
                return web.Response(status=int(status))
            case ["fail", count, *_]:
                return web.Response(status=500 if tries[headers["webhook-id"]] <= int(count) else 200)
            case ["redirect", *_]:
                raise web.HTTPFound("/ok")
            case ["large", *_]:
                return await _large(request)
            case ["silent", *_]:
                await asyncio.Event().wait()
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


async def _large(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65536)
    return response


class Receiver:
    """A receiver in this process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[Received] = []

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.received]


@contextlib.asynccontextmanager
async def receiver(tls: SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of loopback; it ends with the block."""
    receiver = Receiver("")
    runner = web.AppRunner(application(receiver.received.append), access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    (_, port), *_ = runner.addresses
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    yield receiver
    await runner.cleanup()


class ReceiverProcess:
    """A receiver in a process of its own. `port` is kept over restarts, and so is what was received."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self._file = file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def received(self) -> list[Received]:
        """What was received so far, in order."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        return [Received(*json.loads(line)) for line in lines]

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "support.webhook_receiver",
            str(self.port),
            str(self._file),
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
            preexec_fn=die_with_parent,
        )
        await eventually(self._listens)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


async def serve(port: int, file: Path) -> None:
    """Record to this file, until the process is killed."""
    with file.open("a") as lines:

        def record(received: Received) -> None:
            lines.write(json.dumps(received) + "\n")
            lines.flush()

        runner = web.AppRunner(application(record), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
