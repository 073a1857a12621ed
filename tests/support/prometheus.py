"""A Prometheus of this machine (Debian's package `prometheus`), with the rules of the repository."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tailrace_cli.children import die_with_parent
from tailrace_cli.embedded import free_port

MONITORING = Path(__file__).parents[2] / "services" / "deploy" / "monitoring"
RULES = MONITORING / "rules.yml"
MISSING = "Prometheus is not installed: apt-get install --no-install-recommends prometheus"
INTERVAL = "500ms"


def is_installed() -> bool:
    return shutil.which("prometheus") is not None and shutil.which("promtool") is not None


def rules() -> list[dict[str, Any]]:
    """Every rule of the repository."""
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


class Prometheus:
    """Scrapes targets by their jobs, twice a second."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, targets: dict[str, Sequence[int]], *, hold: bool = False) -> None:
        """`targets`: ports by job. `hold`: whether alerts wait for as long as their rules have it (`for`)."""
        written = [rule if hold else {**rule, "for": "0s"} for rule in rules()]
        (self._root / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": written}]}))
        config = {
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
                for job, ports in targets.items()
            ],
        }
        file = self._root / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        with (self._root / "prometheus.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                "prometheus", f"--config.file={file}", f"--storage.tsdb.path={self._root / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}", stdout=output, stderr=output,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    async def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = (await self._get("alerts")).get("alerts", [])
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def query(self, expression: str) -> list[Any]:
        """The vector that an expression has now."""
        found: list[Any] = (await self._get("query", query=expression)).get("result", [])
        return found

    async def _get(self, path: str, **query: str) -> dict[str, Any]:
        """An answer of the API; empty while Prometheus starts."""
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{self._port}/api/v1/{path}", params=query) as answer,
            ):
                if answer.status == 200:
                    data: dict[str, Any] = (await answer.json())["data"]
                    return data
        return {}

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


@contextlib.asynccontextmanager
async def prometheus(root: Path, targets: dict[str, Sequence[int]]) -> AsyncIterator[Prometheus]:
    """One that has scraped every target before the block begins, and stops with it."""
    server = Prometheus(root)
    await server.start(targets)
    try:
        count = sum(map(len, targets.values()))
        async with asyncio.timeout(30):
            while len(await server.query("up == 1")) < count:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        yield server
    finally:
        await server.stop()
