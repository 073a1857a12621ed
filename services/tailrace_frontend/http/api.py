"""Everything but the event stream, as a FastAPI application: routes, operations, the page, errors, CORS."""

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest, MethodNotAllowed, NotFound, RedisRefused, TailraceError, Unavailable
from tailrace.events import Json
from tailrace.process.recent import Recent
from tailrace_frontend import page
from tailrace_frontend.callers import OPEN
from tailrace_frontend.client_connection import REQUEST_ID
from tailrace_frontend.http import cors, dev, diagnostics, openapi, routes, shares
from tailrace_frontend.http.admin import routers as admin
from tailrace_frontend.http.ai_sdk import routes as ai_sdk_routes
from tailrace_frontend.http.head import HeadAsGet, has_head
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.negotiation import wants_html
from tailrace_frontend.http.not_found_page import not_found_page
from tailrace_frontend.http.openai import chat, models, responses, webhooks
from tailrace_frontend.http.page_transfer import PageTransfer
from tailrace_frontend.http.rate_limit_headers import RateLimitHeaders
from tailrace_frontend.http.reference import EXAMPLE_MODEL
from tailrace_frontend.http.reference_document import openapi_document
from tailrace_frontend.metrics import CONTENT_TYPE_LATEST
from tailrace_frontend.page import dashboard_files
from tailrace_frontend.services import Services

MAX_ID_CHARACTERS = 64
EXAMPLE_OF = b'"model":%b'
EXAMPLE = EXAMPLE_OF % jsoncodec.dumps(EXAMPLE_MODEL)
ROUTERS = (
    shares.router,
    routes.router,
    chat.router,
    responses.router,
    models.router,
    webhooks.router,
    ai_sdk_routes.router,
    *admin.ROUTERS,
)

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False,
}  # fmt: skip
"""FastAPI's own has spans as long as a stream, and the values of requests that it refuses (see `tailrace.tracing`)."""

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
        favicon_url="/favicon.svg",
        title="Tailrace",
        version=version("tailrace"),
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    for router in ROUTERS:
        api.include_router(router)
    openapi.document_events(api)
    diagnostics.document_diagnostics(api)
    _add_health(api, services)
    if not services.settings.operations_address:
        _add_operations(api, services)
    page.mount(api, retention_s=services.settings.retention_s, is_dev=dev.is_available(services.settings))
    api.include_router(dev.router(services.settings))
    dashboard_files.mount(api)
    api.add_middleware(PageTransfer, paths=[*page.FILES, *dashboard_files.FILES])
    _finish(api, services)
    _add_reference(api, services)
    api.add_middleware(RateLimitHeaders, services=services)
    cors.allow_origins(api, services.settings.origins)
    return api


def create_operations(services: Services) -> FastAPI:
    """Health, readiness and metrics alone, for an address of their own."""
    operations = FastAPI(title="Tailrace: operations", openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
    _add_health(operations, services)
    _add_operations(operations, services)
    _finish(operations, services)
    return operations


def _finish(api: FastAPI, services: Services) -> None:
    api.state.services = services
    for kind in (TailraceError, HTTPException, RequestValidationError, ClientDisconnect, Exception):
        api.add_exception_handler(kind, _error_response)
    api.add_middleware(HeadAsGet)


def _add_reference(api: FastAPI, services: Services) -> None:
    """The OpenAPI document. Its examples name the model that is the default just now, so that they can be sent."""

    def openapi() -> Json:
        if api.openapi_schema is None:
            api.openapi_schema = openapi_document(api, is_open=services.callers.are_open)
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]
    api.router.routes = [each for each in api.router.routes if getattr(each, "path", "") != api.openapi_url]

    @api.get("/openapi.json", include_in_schema=False)
    async def document() -> Response:
        model = await _example_model(services)
        return JSONBytesResponse(jsoncodec.dumps(openapi()).replace(EXAMPLE, EXAMPLE_OF % jsoncodec.dumps(model)))


async def _example_model(services: Services) -> str:
    """The default model; of callers with keys, the one that the settings name. (This document needs no key.)"""
    if services.callers.are_open:
        with contextlib.suppress(Unavailable, RedisRefused):
            if names := await services.generations.list_models(OPEN):
                return names[0]
    return services.settings.model or EXAMPLE_MODEL


def _add_health(api: FastAPI, services: Services) -> None:
    @api.get("/healthz", tags=["operations"])
    @api.get("/livez", tags=["operations"])
    async def livez() -> dict[str, str]:
        """The process answers, whatever Redis does: a restart would not bring Redis back."""
        return {"status": "ok"}

    @api.get("/startupz", tags=["operations"])
    async def startupz() -> dict[str, str]:
        """The process has started; 503 until then. It does not wait for Redis."""
        if not services.has_started:
            raise Unavailable("This frontend is starting.")
        return {"status": "ok"}


def _add_operations(api: FastAPI, services: Services) -> None:
    load = Recent(partial(_load, services))

    @api.get("/readyz", tags=["operations"])
    async def readyz() -> dict[str, Any]:
        """The servers of the logs and of the queue answer and are set up so that logs are safe there, and what is
        appended is received; 503 otherwise, and while this frontend stops."""
        return {"status": "ok", "warnings": await services.reports.check_ready()}

    @api.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Counters and gauges for Prometheus."""
        shown = services.metrics
        shown.queued, shown.oldest_wait_s, shown.workers = await load.get()
        return Response(shown.text(), media_type=CONTENT_TYPE_LATEST)


async def _load(services: Services) -> tuple[float, float, float]:
    """Generations that wait, for how long the oldest of them has, and living workers; NaN while Redis is away."""
    queue = services.queue
    try:
        return await queue.jobs.depth(), await queue.jobs.oldest_wait_s(), await queue.presence.count()
    except (Unavailable, RedisRefused):
        return float("nan"), float("nan"), float("nan")


async def _error_response(request: Request, error: Exception) -> Response:
    """Every error in the one shape. The log has the request ids of a defect, ours and the client's."""
    shown = MethodNotAllowed(allow=_methods(request)) if _is_405(error) else _as_tailrace_error(error)
    if shown.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        ids = request.scope.get(REQUEST_ID), request.headers.get("x-client-request-id", "")[:MAX_ID_CHARACTERS]
        logger.error("request %s (the client's id: %r) failed: %s", *ids, type(error).__name__)
    request.app.state.services.metrics.refused(shown.status)
    if _is_unknown_address(error) and wants_html(request.headers.get("accept", "")):
        return not_found_page(request.url.path)
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


def _is_unknown_address(error: Exception) -> bool:
    """Whether no route has the path. (A generation that does not exist is an error of ours.)"""
    return isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND


def _methods(request: Request) -> str:
    """The methods of all routes of the path. Starlette's 405 names those of the first route only."""
    routes_of_routers = [route for router in ROUTERS for route in router.routes]
    known = [route for route in (*request.app.routes, *routes_of_routers) if isinstance(route, Route)]
    here = [route for route in known if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in here for method in route.methods or ()}
    if "GET" in methods and has_head(request.url.path):
        methods.add("HEAD")
    return ", ".join(sorted(methods))
