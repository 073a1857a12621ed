"""`tailrace doctor` as a command, behind real proxies: with the shipped configurations, and with broken ones."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from support.proxy_servers import KINDS, Changes, ProxyServer, installed, proxy_server
from support.stack import Stack, stack
from tailrace_cli.proxy_remedies import REMEDIES

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS = 20
"""Each command has a caller of its own: one has few streams at once."""

KEEPALIVE_S = 2
SILENCE_S = 3
AT_ONCE = 5
OTHERS = KINDS[1:]
PROXIES = {"nginx", "HAProxy", "Caddy", "AWS ALB", "Cloudflare"}


class Broken(NamedTuple):
    """A change of the shipped nginx.conf, or of the file for TLS, and the checks that find it."""

    changes: Changes
    found: Mapping[str, str]
    tls_changes: Changes | None = None


def with_header(line: str) -> Changes:
    return {"proxy_cache off;": f"proxy_cache off; {line}"}


BROKEN = {
    "buffering": Broken(
        {"proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"}, {"unbuffered": "fault"}
    ),
    "a timeout below the beat": Broken(
        {"proxy_read_timeout 75s;": "proxy_read_timeout 1s;"}, {"silence": "fault"}
    ),
    "a cursor that is removed": Broken(with_header('proxy_set_header Last-Event-ID "";'), {"last_event_id": "fault"}),
    "a cursor that is replaced": Broken(with_header("proxy_set_header Last-Event-ID 1-1;"), {"last_event_id": "fault"}),
    "an Idempotency-Key that is removed": Broken(
        with_header('proxy_set_header Idempotency-Key "";'), {"idempotency_key": "fault"}
    ),
    "a key that is removed": Broken(with_header('proxy_set_header Authorization "";'), {"authorization": "fault"}),
    "no HTTP/2": Broken({}, {"http2": "fault"}, {" ssl http2;": " ssl;"}),
    "compressed events": Broken(
        {"gzip off;": "gzip on; gzip_min_length 0; gzip_proxied any; gzip_types text/event-stream;"},
        {"uncompressed": "fault"},
    ),
    "HTTP/1.0": Broken({"proxy_http_version 1.1;": "proxy_http_version 1.0;"}, {"http_version": "warning"}),
    "two faults": Broken(
        {
            "proxy_read_timeout 75s;": "proxy_read_timeout 1s;",
            "gzip off;": "gzip on; gzip_min_length 0; gzip_proxied any; gzip_types text/event-stream;",
        },
        {"silence": "fault", "uncompressed": "fault"},
    ),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    keys = ",".join(f"caller-{number}:{key_of(number)}" for number in range(CALLERS))
    settings: dict[str, Any] = {"api_keys": keys, "ticket_secret": "0123456789abcdef", "keepalive_s": str(KEEPALIVE_S)}
    async with stack(workers=0, frontends=1, **settings) as running:
        yield running


def key_of(number: int) -> str:
    return f"key-of-caller-{number}"


async def examined(proxy: ProxyServer, *arguments: str, key: str) -> tuple[int | None, str]:
    """The exit status of the command, and what it has printed."""
    environment = {
        "PATH": os.environ["PATH"], "SSL_CERT_FILE": str(proxy.certificate.certificate), "TAILRACE_API_KEY": key,
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_cli", "doctor", *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed, _ = await process.communicate()
    return process.returncode, printed.decode()


def wrong(report: Any) -> dict[str, str]:
    return {each["name"]: each["outcome"] for each in report["checks"] if each["outcome"] not in ("ok", "skipped")}


@pytest.fixture(scope="module")
def places() -> asyncio.Semaphore:
    """For so many commands at once."""
    return asyncio.Semaphore(AT_ONCE)


def new_folder(parent: Path, number: int) -> Path:
    folder = parent / str(number)
    folder.mkdir()
    return folder


async def report_behind(
    kind: str, folder: Path, product: Stack, places: asyncio.Semaphore, number: int, broken: Broken | None = None
) -> Any:
    """The report of a doctor who looks through a proxy of its own."""
    changes, tls_changes = (broken.changes, broken.tls_changes) if broken else (None, None)
    ports = [frontend.port for frontend in product.frontends]
    silence_s = SILENCE_S if broken is None or "silence" in broken.found else 0
    async with places, proxy_server(kind, folder, ports, changes, tls_changes) as proxy:
        arguments = (proxy.url, "--json", "--silence", str(silence_s))
        status, printed = await examined(proxy, *arguments, key=key_of(number))
    report = json.loads(printed)
    assert status == (0 if report["is_fit"] else 1)
    assert report["is_fit"] is ("fault" not in wrong(report).values())
    return report


async def test_doctor_finds_the_fault_behind_each_broken_nginx(
    product: Stack, places: asyncio.Semaphore, tmp_path: Path
) -> None:
    """And nothing else than that; it names what to change in each proxy."""
    installed("nginx")
    reports = await asyncio.gather(
        *(
            report_behind("nginx", new_folder(tmp_path, number), product, places, number, broken)
            for number, broken in enumerate(BROKEN.values())
        )
    )
    found = {name: wrong(report) for name, report in zip(BROKEN, reports, strict=True)}
    assert found == {name: broken.found for name, broken in BROKEN.items()}
    for report in reports:
        for check in report["checks"]:
            assert set(check["remedies"]) == (PROXIES if check["outcome"] in ("warning", "fault") else set())


@pytest.mark.parametrize("kind", ["nginx", *(pytest.param(kind, marks=pytest.mark.long) for kind in OTHERS)])
async def test_doctor_finds_nothing_wrong_behind_a_shipped_configuration(
    kind: str, product: Stack, places: asyncio.Semaphore, tmp_path: Path
) -> None:
    report = await report_behind(kind, tmp_path, product, places, CALLERS - 1)
    assert wrong(report) == {}
    assert {each["name"] for each in report["checks"]} == {"reached", *REMEDIES}
    assert {each["outcome"] for each in report["checks"]} == {"ok"}
    assert report["keepalive_s"] == KEEPALIVE_S


async def test_doctor_prints_each_check_and_what_to_change(product: Stack, tmp_path: Path) -> None:
    changes = with_header('proxy_set_header Last-Event-ID "";')
    ports = [frontend.port for frontend in product.frontends]
    async with proxy_server("nginx", tmp_path, ports, changes) as proxy:
        (status, printed), (_, plain), refused, unknown = await asyncio.gather(
            examined(proxy, proxy.url, "--silence", "1", key=key_of(0)),
            examined(proxy, proxy.plain_url, "--silence", "0", key=key_of(1)),
            examined(proxy, proxy.url, key="another-key"),
            examined(proxy, f"{proxy.url}/elsewhere", key=key_of(2)),
        )
    assert status == 1
    lines = printed.splitlines()
    assert lines[0] == proxy.url
    assert "FAULT    last-event-id    Last-Event-ID is removed: a client that reconnects begins again" in lines
    assert any(line.startswith(f"{'':25} nginx       no proxy_set_header Last-Event-ID") for line in lines)
    assert "ok       silence          1 s and more; a frontend is silent for up to 2 s" in lines
    assert lines[-1] == "1 fault"
    assert "skipped  http2            no TLS, and so no HTTP/2" in plain
    assert refused[0] == 1
    assert "refuses the key of TAILRACE_API_KEY" in refused[1]
    assert unknown[0] == 2
    assert "is a frontend of an earlier version" in unknown[1]
