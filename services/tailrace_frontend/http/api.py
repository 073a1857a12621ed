"""Everything but the event stream, as a FastAPI application: routes, operations, the page, errors, CORS."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from tailrace.errors import InvalidRequest, MethodNotAllowed, NotFound, RedisRefused, TailraceError, Unavailable
from tailrace_frontend import page
from tailrace_frontend.client_connection import REQUEST_ID
from tailrace_frontend.http import cors, openapi, routes, schemas
from tailrace_frontend.http.ai_sdk import routes as ai_sdk_routes
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.openai import chat, models, responses, webhooks
from tailrace_frontend.http.rate_limit_headers import RateLimitHeaders
from tailrace_frontend.metrics import CONTENT_TYPE_LATEST
from tailrace_frontend.recent import Recent
from tailrace_frontend.services import Services

MAX_ID_CHARACTERS = 64
SEE_LOG = "The frontend's log has the reason."
ROUTERS = (routes.router, chat.router, responses.router, models.router, webhooks.router, ai_sdk_routes.router)

logger = logging.getLogger(__name__)


def create_api(services: Services) -> FastAPI:
    """The application, with an OpenAPI page at `/docs` that needs no other server."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await services.start()
        yield
        await services.close()

    api = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        title="Tailrace",
        description="LLM output that survives: create a generation, follow its log from any cursor.",
        version=version("tailrace"),
        lifespan=lifespan,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        api.include_router(router)
    openapi.document_events(api)
    _add_health(api)
    if not services.settings.operations_address:
        _add_operations(api, services)
    page.mount(api)
    _finish(api, services)
    api.add_middleware(RateLimitHeaders, services=services)
    cors.allow_origins(api, services.settings.origins)
    return api


def create_operations(services: Services) -> FastAPI:
    """Health, readiness and metrics alone, for an address of their own."""
    operations = FastAPI(title="Tailrace: operations", openapi_url=None, redirect_slashes=False)
    _add_health(operations)
    _add_operations(operations, services)
    _finish(operations, services)
    return operations


def _finish(api: FastAPI, services: Services) -> None:
    api.state.services = services
    for kind in (TailraceError, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        api.add_exception_handler(kind, _error_response)


def _add_health(api: FastAPI) -> None:
    @api.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}


def _add_operations(api: FastAPI, services: Services) -> None:
    problems, load = Recent(services.problems), Recent(partial(_load, services))

    @api.get("/readyz", tags=["operations"], responses={503: {"model": schemas.ErrorResponse}})
    async def readyz() -> dict[str, Any]:
        """The servers of the logs and of the queue answer and are set up so that logs are safe there, and what is
        appended is received; 503 otherwise, and while this frontend stops."""
        if services.hub.draining:
            raise Unavailable("This frontend is stopping.")
        wrong, warnings = await problems.get()
        if wrong:
            raise Unavailable("; ".join(wrong))
        if services.hub.is_away:
            raise Unavailable(f"The subscriber connection is down; streams end with a retry hint. {SEE_LOG}")
        if not services.hub.subscriber.connected:
            warnings = [*warnings, f"the subscriber connection is down: {SEE_LOG}"]
        return {"status": "ok", "warnings": warnings}

    @api.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Counters and gauges for Prometheus."""
        queued, workers = await load.get()
        services.metrics.queued.set(queued)
        services.metrics.workers.set(workers)
        return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _load(services: Services) -> tuple[float, float]:
    """Generations that wait, and living workers; NaN while Redis is away."""
    try:
        return await services.queue.jobs.depth(), await services.queue.presence.count()
    except (Unavailable, RedisRefused):
        return float("nan"), float("nan")


async def _error_response(request: Request, error: Exception) -> Response:
    """Every error in the one shape. The log has the request ids of a defect, ours and the client's."""
    shown = MethodNotAllowed(allow=_methods(request)) if _is_405(error) else _as_tailrace_error(error)
    if shown.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        ids = request.scope.get(REQUEST_ID), request.headers.get("x-client-request-id", "")[:MAX_ID_CHARACTERS]
        logger.error("request %s (the client's id: %r) failed: %s", *ids, type(error).__name__)
    request.app.state.services.metrics.refused.labels(shown.status).inc()
    return JSONBytesResponse(shown.as_json(), shown.status, shown.headers())


def _as_tailrace_error(error: Exception) -> TailraceError:
    match error:
        case TailraceError():
            return error
        case RequestValidationError():
            problem = error.errors()[0]
            name = str(problem["loc"][-1])
            return InvalidRequest(f"{name}: {problem['msg']}", param=name)
        case ClientDisconnect():
            # No client receives this answer; it is counted.
            return InvalidRequest("The connection closed before the whole body was received.")
        case HTTPException(status_code=404):
            return NotFound()
        case HTTPException():
            return InvalidRequest(error.detail or HTTPStatus(error.status_code).phrase)
    return TailraceError()


def _is_405(error: Exception) -> bool:
    return isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED


def _methods(request: Request) -> str:
    """The methods of all routes of the path. Starlette's 405 names those of the first route only."""
    routes_of_routers = [route for router in ROUTERS for route in router.routes]
    known = [route for route in (*request.app.routes, *routes_of_routers) if isinstance(route, Route)]
    here = [route for route in known if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in here for method in route.methods or ()}))
