"""Logging a browser in and out.

GET    /v1/admin/session  who has the session: 200 with the caller's name and scopes, or with nulls
POST   /v1/admin/session  {"key": "…"}: 200 with the caller's name and scopes, and the cookie
DELETE /v1/admin/session  the cookie is taken back
"""

import contextlib

from fastapi import Request, Response

from tailrace.errors import CallerBlocked, InsufficientScope, InvalidBody, Unauthenticated
from tailrace.events import Json
from tailrace.scopes import Scope, names_of
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.bodies import decode_body, read_body
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import CALLER, require
from tailrace_frontend.services import Services

MAX_BODY_BYTES = 8192

router = admin_router("/session")


@router.post("")
async def log_in(request: Request) -> Response:
    """Have a session, for a key with one of the admin scopes."""
    services: Services = request.app.state.services
    services.sessions.check_origin(request.method, request.headers)
    body = await decode_body(await read_body(request, MAX_BODY_BYTES))
    key = body.get("key")
    if not isinstance(key, str):
        raise InvalidBody("key: the API key is missing.", param="key")
    address = request.client.host if request.client else ""
    await services.sessions.logins.admit(address)
    try:
        caller = await services.authenticate({**request.headers, "authorization": f"Bearer {key.strip()}"})
    except Unauthenticated:
        services.sessions.logins.fail(address)
        raise
    if Scope.ADMIN_VIEW not in caller.scopes:
        raise InsufficientScope.lacking([Scope.ADMIN_VIEW])
    request.scope[CALLER] = caller
    value = {"caller": caller.owner, "scopes": names_of(caller.scopes)}
    cookie = (
        {} if services.callers.are_open else {"set-cookie": services.sessions.cookie(caller, is_secure=_tls(request))}
    )
    return JSONBytesResponse(value, headers={"cache-control": "no-store", **cookie})


@router.get("")
async def who_is_here(request: Request) -> Response:
    """Who looks, without an error where no one has logged in: so the page knows whether to ask for a key."""
    services: Services = request.app.state.services
    value: Json = {"caller": None, "scopes": []}
    with contextlib.suppress(Unauthenticated, CallerBlocked, InsufficientScope):
        caller = request.scope[CALLER] = await services.authorize(request.headers, frozenset({Scope.ADMIN_VIEW}))
        value = {"caller": caller.owner, "scopes": names_of(caller.scopes)}
    return JSONBytesResponse(value, headers={"cache-control": "no-store"})


@router.delete("", dependencies=[require(Scope.ADMIN_VIEW)])
async def log_out(request: Request) -> Response:
    """End the session in this browser."""
    services: Services = request.app.state.services
    cookie = services.sessions.end_cookie(is_secure=_tls(request))
    return Response(status_code=204, headers={"set-cookie": cookie, "cache-control": "no-store"})


def _tls(request: Request) -> bool:
    """Whether the browser's connection is encrypted, as far as a proxy in front reports it."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
