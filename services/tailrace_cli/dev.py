"""`tailrace dev`: the whole product in one command, on an embedded server whose data is kept between runs.

    demo model ── worker ── Valkey ── frontend        (the demo model only where no upstream is configured)

Each part runs in a process of its own, as in production, so each part can be killed to see what happens. One Ctrl-C
stops all of them: first the frontend and the worker, which drain, then the rest.
"""

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request

from tailrace.settings import Settings
from tailrace_cli.children import Child
from tailrace_cli.embedded import EmbeddedServer, free_port

READY_S = 60.0
STOP_S = 15.0


def main(settings: Settings) -> int:
    """Run until Ctrl-C. Returns the exit status."""
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    settings.check_frontend()
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    server = EmbeddedServer(settings.data_dir)
    server.start()
    try:
        return await _run_children(settings, server, stopping)
    finally:
        server.stop()


async def _run_children(settings: Settings, server: EmbeddedServer, stopping: asyncio.Event) -> int:
    environment = os.environ | {
        "TAILRACE_REDIS_URL": server.url,
        "TAILRACE_QUEUE_URL": "",
        "TAILRACE_HOST": settings.host,
        "TAILRACE_PORT": str(settings.port or free_port()),
        "TAILRACE_DRAIN_S": os.environ.get("TAILRACE_DRAIN_S", "1"),
        "TAILRACE_WEBHOOK_ALLOW_PRIVATE": os.environ.get("TAILRACE_WEBHOOK_ALLOW_PRIVATE", "true"),
    }
    children = []
    upstream = os.environ.get("OPENAI_BASE_URL")
    if not upstream and not os.environ.get("OPENAI_API_KEY"):
        port = free_port()
        environment |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "OPENAI_API_KEY": "demo"}
        children.append(Child("demo-model", "--port", str(port), environment=environment))
        upstream = "the built-in demo model (to use another, set OPENAI_API_KEY or OPENAI_BASE_URL)"
    worker = Child("worker", environment=environment)
    frontend = Child("frontend", environment=environment)
    children += [worker, frontend]
    running = [asyncio.create_task(child.keep_running(), name=child.name) for child in children]
    waiting = asyncio.create_task(stopping.wait())
    url = f"http://{settings.host}:{environment['TAILRACE_PORT']}"
    ready = asyncio.create_task(_announce_when_ready(url, upstream or "api.openai.com", server))
    done, _ = await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    if waiting in done:
        print("\ndev: stopping", file=sys.stderr)
    await asyncio.gather(frontend.stop(STOP_S), worker.stop(STOP_S))
    await asyncio.gather(*(child.stop(STOP_S) for child in children))
    await asyncio.gather(*running)
    waiting.cancel()
    return 0 if waiting in done else 1


async def _announce_when_ready(url: str, upstream: str, server: EmbeddedServer) -> None:
    deadline = asyncio.get_running_loop().time() + READY_S
    while asyncio.get_running_loop().time() < deadline:
        if await asyncio.to_thread(_is_ready, url):
            print(
                f"\n  Tailrace   {url}\n  upstream   {upstream}\n"
                f"  Redis      {server.url}\n  answers    kept under {server.data_dir}\n"
                "\n  Ask a question and reload the page during the answer. Ctrl-C stops everything.\n",
                flush=True,
            )
            return
        await asyncio.sleep(0.1)
    print(f"dev: the frontend at {url} is not ready after {READY_S:.0f} s", file=sys.stderr)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:  # noqa: S310 - our own address
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
