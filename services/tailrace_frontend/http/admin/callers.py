"""Callers: what they use, and the limits that operators set for them at run time.

GET    /v1/admin/callers          all of them, by name
GET    /v1/admin/callers/{name}   one
PUT    /v1/admin/callers/{name}   set its policy; what the body does not name is as the settings have it
PATCH  /v1/admin/callers/{name}   change what the body names; null: as the settings have it
DELETE /v1/admin/callers/{name}   remove its policy
"""

from typing import Annotated

import msgspec
from fastapi import Query, Request, Response

from tailrace.events import Json
from tailrace.log.spent import NANO
from tailrace.queue import CallerLimits, CallerUse, Right
from tailrace.queue.caller_policies import check_caller, parse_policy
from tailrace.scopes import Scope
from tailrace_frontend.caller_views import CallerView
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.bodies import decode_body, read_body
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import check_act_on, require
from tailrace_frontend.services import Services

MAX_BODY_BYTES = 64 * 1024

router = admin_router("/callers")


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_callers(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    after: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """Callers that have a key or a policy, and blocked ones, by name, after this one."""
    services: Services = request.app.state.services
    known = {*services.callers.names, *services.callers.run_time.state.blocked}
    names = [name for name in services.caller_views.names(known) if name > after]
    views = await services.caller_views.of(names[:limit])
    data = [_as_json(services, view) for view in views]
    return JSONBytesResponse({"object": "list", "data": data, "has_more": len(names) > limit})


@router.get("/{name}", dependencies=[require(Scope.ADMIN_VIEW)])
async def get_caller(request: Request, name: str) -> Response:
    """One caller. A name that has neither a key nor a policy is a caller with the limits of the settings."""
    services: Services = request.app.state.services
    return await _answer(services, check_caller(name))


@router.put("/{name}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def put_caller(request: Request, name: str) -> Response:
    """Set the policy of a caller, in every process within a second."""
    services: Services = request.app.state.services
    await check_act_on(request, name)
    given = await decode_body(await read_body(request, MAX_BODY_BYTES))
    given = {field: value for field, value in given.items() if value is not None}
    await services.policies.put(check_caller(name), parse_policy(given))
    return await _answer(services, name)


@router.patch("/{name}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def patch_caller(request: Request, name: str) -> Response:
    """Change the policy of a caller, in every process within a second."""
    services: Services = request.app.state.services
    await check_act_on(request, name)
    given = await decode_body(await read_body(request, MAX_BODY_BYTES))
    await services.policies.patch(check_caller(name), given)
    return await _answer(services, name)


@router.delete("/{name}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def delete_caller_policy(request: Request, name: str) -> Response:
    """Have the settings hold for a caller again."""
    services: Services = request.app.state.services
    await check_act_on(request, name)
    await services.policies.remove(check_caller(name))
    return await _answer(services, name)


async def _answer(services: Services, name: str) -> Response:
    (view,) = await services.caller_views.of([name])
    return JSONBytesResponse(_as_json(services, view))


def _as_json(services: Services, view: CallerView) -> Json:
    return {
        "object": "caller",
        "name": view.name,
        "blocked": services.callers.run_time.is_blocked(view.name),
        "policy": msgspec.to_builtins(view.policy),
        "limits": _limits(view.limits, view.right),
        "use": {"running": view.use.running, "waiting": view.use.waiting, "readers": view.readers} | _use(view.use),
    }


def _limits(limits: CallerLimits, right: Right) -> Json:
    """As they hold; no limit is null."""
    shown: Json = msgspec.to_builtins(limits) | right._asdict()
    without = {name: None for name, value in shown.items() if value == 0}
    return shown | without


def _use(use: CallerUse) -> Json:
    spent = use.spent
    return {
        "tokens_this_minute": use.minute,
        "day": {"tokens": spent.day_tokens, "usd": spent.day_cost / NANO},
        "month": {"tokens": spent.month_tokens, "usd": spent.month_cost / NANO},
        "reserved": {"tokens": use.held_tokens, "usd": use.held_cost / NANO},
    }
