"""The installation now.

GET /v1/admin/overview         one snapshot
GET /v1/admin/overview/events  a snapshot each second (`streams`)
GET /v1/admin/upstreams        the upstreams: calls, failures, circuits, limits
GET /v1/admin/health           what is in order and what is not, in words, and the settings in force
"""

import asyncio
from collections.abc import Sequence

import msgspec
from fastapi import Request, Response
from pydantic import SecretStr

from tailrace.errors import RedisRefused, Unavailable
from tailrace.events import Json
from tailrace.ids import short_name
from tailrace.queue.roll_call import Question
from tailrace.redis.outage import place_of
from tailrace.scopes import Scope
from tailrace.settings import PREFIX, Settings
from tailrace_frontend.dashboard.snapshot import snapshot_json, upstream_json
from tailrace_frontend.frontend_reports import FrontendStatus
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

NO_STORE = {"cache-control": "no-store"}

SILENT = "It has received the question, and does not answer."

router = admin_router()


@router.get("/overview", dependencies=[require(Scope.ADMIN_VIEW)])
async def overview(request: Request) -> Response:
    """Load, workers, upstreams, servers, and what is wrong."""
    services: Services = request.app.state.services
    return JSONBytesResponse(snapshot_json(await services.snapshots.now()), headers=NO_STORE)


@router.get("/upstreams", dependencies=[require(Scope.ADMIN_VIEW)])
async def upstreams(request: Request) -> Response:
    """Every upstream that the file names or that was ever called."""
    services: Services = request.app.state.services
    usage = await services.queue.upstreams.usage()
    open_circuits = await services.queue.upstreams.open_circuits(sorted(usage))
    limits = {each.name: each.max_concurrency for each in services.upstreams.all}
    known = {name: upstream_json(name, each, open_circuits.get(name)) for name, each in usage.items()}
    data: list[Json] = [
        {"name": name, "calls": 0, "failures": 0, "in_use": 0, "open": False}
        | known.get(name, {})
        | {"max_concurrency": limits.get(name), "is_configured": name in limits}
        for name in dict.fromkeys([*limits, *known])
    ]
    return JSONBytesResponse({"object": "list", "data": data}, headers=NO_STORE)


@router.get("/health", dependencies=[require(Scope.ADMIN_VIEW)])
async def health(request: Request) -> Response:
    """The state of the servers and of this frontend in words."""
    services: Services = request.app.state.services
    checks = [_subscriber(services), *await _servers(services), *await _badges(services)]
    value = {
        "checks": checks,
        "probes": await _probes(services),
        "settings": settings_json(services.settings),
    }
    return JSONBytesResponse(value, headers=NO_STORE)


def _check(name: str, level: str, text: str) -> Json:
    return {"name": name, "level": level, "text": text}


def _subscriber(services: Services) -> Json:
    if services.hub.subscriber.connected:
        return _check("this frontend", "ok", f"It serves {services.hub.count:,} connections and receives every append.")
    return _check("this frontend", "bad", "A subscriber is not connected: the live streams of that server wait for it.")


async def _servers(services: Services) -> list[Json]:
    try:
        wrong, warnings = await services.problems()
    except (Unavailable, RedisRefused) as error:
        return [_check("Redis", "bad", error.message)]
    found = [_check("Redis", "bad", each) for each in wrong] + [_check("Redis", "warning", each) for each in warnings]
    return found or [_check("Redis", "ok", "It answers, keeps what it is given, and lets us do what we need.")]


async def _badges(services: Services) -> list[Json]:
    try:
        snapshot = await services.snapshots.now()
    except (Unavailable, RedisRefused):
        return []
    wrong = [_check("now", badge.level, badge.text) for badge in snapshot.badges if badge.code != "subscriber"]
    alive = len(snapshot.workers)
    return wrong or [_check("workers", "ok", f"{alive} {'is' if alive == 1 else 'are'} alive, and the queue moves.")]


async def _probes(services: Services) -> list[Json]:
    """What `/readyz` of every process answers now: of the frontends, which are asked, and of the workers, with their
    last heartbeats. Of each frontend that does not answer there is a row without a name."""
    try:
        answers, workers = await asyncio.gather(
            services.roll_call.ask(Question("status")), services.queue.presence.workers()
        )
    except (Unavailable, RedisRefused):
        return []
    frontends = [msgspec.json.decode(each, type=FrontendStatus) for each in answers.found]
    found = [
        _probe("frontend", f"{each.host} ({each.pid})", each.refusal, each.warnings, each.version)
        for each in sorted(frontends, key=lambda each: (each.host, each.pid))
    ]
    found += [_probe("frontend", "", SILENT, (), "") for _ in range(answers.asked - len(frontends))]
    return found + [
        _probe("worker", f"{short_name(each.name)} on {status.host} ({status.pid})", status.refusal, status.warnings,
               status.version)
        for each in workers
        for status in [each.status]
    ]  # fmt: skip


def _probe(tier: str, name: str, refusal: str, warnings: Sequence[str], version: str) -> Json:
    level = "bad" if refusal else "warning" if warnings else "ok"
    return {"tier": tier, "name": name, "level": level, "text": refusal or "; ".join(warnings), "version": version}


def settings_json(settings: Settings) -> list[Json]:
    """Every setting with its value; of a secret, whether it is set; of a Redis server, its place."""
    found = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            shown = "(set)" if value.get_secret_value() else "(empty)"
        elif name.endswith("_url"):
            shown = place_of(value) if value else ""
        else:
            shown = str(value)
        is_default = value == field.default
        found.append({"name": PREFIX + name.upper(), "value": shown, "is_default": is_default})
    return found
