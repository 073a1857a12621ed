"""The banner of `tailrace dev`: what runs and where, printed once all of it does."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tailrace.errors import RedisRefused, Unavailable
from tailrace.queue.models import UpstreamModels
from tailrace.queue.presence import WorkerPresence
from tailrace_cli import local_http

READY_S = 60.0
MODELS_S = 2.0
"""For how long the banner waits for the upstream's models after everything else is ready."""

POLL_S = 0.05
ASK_S = 2.0
SHOWN_MODELS = 5
UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


async def wait_until_ready(url: str, workers: WorkerPresence) -> str:
    """Wait until the frontend answers and a worker is there. What is still missing after READY_S; empty: nothing."""
    missing, deadline = "", asyncio.get_running_loop().time() + READY_S
    while asyncio.get_running_loop().time() < deadline:
        missing = await _missing(url, workers)
        if not missing:
            return ""
        await asyncio.sleep(POLL_S)
    return missing


async def _missing(url: str, workers: WorkerPresence) -> str:
    try:
        await asyncio.to_thread(local_http.get, f"{url}/healthz", timeout_s=ASK_S)
    except OSError:
        return f"the frontend at {url} does not answer"
    try:
        return "" if await workers.count() else "no worker is ready"
    except (Unavailable, RedisRefused) as error:
        return f"Redis does not answer: {error}"


async def fetch_models(upstream: UpstreamModels) -> tuple[list[str], str]:
    """The upstream's models as its worker has listed them. None where it lists none within MODELS_S, and the reason
    where the worker has reported one."""
    deadline = asyncio.get_running_loop().time() + MODELS_S
    while asyncio.get_running_loop().time() < deadline:
        try:
            if names := await upstream.names():
                return names, ""
        except (Unavailable, RedisRefused):
            return [], ""
        await asyncio.sleep(POLL_S)
    try:
        return [], await upstream.failure()
    except (Unavailable, RedisRefused):
        return [], ""


def text(
    *, url: str, note: str, upstream: str, models: Sequence[str], no_models: str = "", redis: str, data_dir: Path,
    retention_s: int, processes: Sequence[tuple[str, int]], load: str = "",
) -> str:  # fmt: skip
    """The banner, with an empty line around it. `note`: why the address is not the expected one.
    `no_models`: why the upstream's models could not be listed. `load`: what `--load` does."""
    rows = [
        ("Tailrace", url),
        ("", note),
        ("upstream", upstream),
        ("models", shortened(models) or (f"none listed: {no_models}" if no_models else "")),
        ("Redis", redis),
        ("answers", f"kept for {duration(retention_s)} under {data_dir}"),
        ("processes", " · ".join(f"{name} {pid}" for name, pid in processes)),
        ("load", load),
    ]
    lines = [f"  {name:11}{value}" for name, value in rows if value]
    last = "  Ask a question and reload the page during the answer. Ctrl-C stops everything."
    return "\n".join(["", *lines, "", last, ""])


def shortened(names: Sequence[str]) -> str:
    """The first names, and how many others there are."""
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return ", ".join(names[:SHOWN_MODELS]) + more


def duration(seconds: int) -> str:
    """`7 days`, `90 minutes`: in the greatest unit of which it is a multiple."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds % size == 0)
    return f"{seconds // size} {unit}{'s' if seconds != size else ''}"
