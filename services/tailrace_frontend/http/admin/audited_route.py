"""The routes under `/v1/admin`: each request leaves a line in the audit, also one that is refused.

    router = admin_router("/workers")

    @router.post("/{worker}/drain", dependencies=[require(Scope.ADMIN_OPERATE)])
    async def drain_worker(request: Request, worker: str) -> Response: ...

The line has the caller's name, the function's name as the action, the path's parameters as the target, the outcome
(`ok`, or the error's code) and the client's address. A handler whose target is not in the path calls `set_target`.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from tailrace.audit import OK
from tailrace.errors import InvalidRequest, TailraceError
from tailrace_frontend.http.require import CALLER
from tailrace_frontend.services import Services

PREFIX = "/v1/admin"
TARGET = "tailrace.audit_target"
UNCHANGED = "tailrace.audit_unchanged"
SAFE_METHODS = frozenset({"GET", "HEAD"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def admin_router(prefix: str = "") -> APIRouter:
    """A router under `/v1/admin`. Its routes are documented in `docs/admin.md`, not in the OpenAPI document."""
    return APIRouter(prefix=PREFIX + prefix, route_class=AuditedRoute, include_in_schema=False)


def set_target(request: Request, *targets: str) -> None:
    """Name what the request acts on, where the path does not: the audit has it, with an entry for each target."""
    request.scope[TARGET] = targets


def note_unchanged(request: Request) -> None:
    """The request changes nothing, and can be repeated at will: the audit has it as a read."""
    request.scope[UNCHANGED] = True


class AuditedRoute(APIRoute):
    """A route that writes a line of the audit for each request."""

    def get_route_handler(self) -> Handler:
        handle, action = super().get_route_handler(), self.name

        async def audited(request: Request) -> Response:
            outcome = "failed"
            try:
                response = await handle(request)
                outcome = OK
            except TailraceError as error:
                outcome = error.code or error.type
                raise
            except (RequestValidationError, ClientDisconnect):
                outcome = InvalidRequest.type
                raise
            finally:
                await _record(request, action, outcome)
            return response

        return audited


async def _record(request: Request, action: str, outcome: str) -> None:
    services: Services = request.app.state.services
    caller = request.scope.get(CALLER)
    who, address = caller.owner if caller else "", request.client.host if request.client else ""
    is_read = request.method in SAFE_METHODS or request.scope.get(UNCHANGED, False)
    for target in request.scope.get(TARGET) or ("/".join(map(str, request.path_params.values())),):
        await services.audit.record(who, action, target, outcome, address, is_read=is_read)
