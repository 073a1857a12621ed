"""The event streams under `/v1/admin`, which `app` answers without FastAPI.

GET /v1/admin/overview/events          a snapshot of the installation each second; needs `admin:view`
GET /v1/admin/audit/events             the entries of the audit, as they are added; needs `admin:view`
GET /v1/admin/generations/{id}/events  the log of any generation; needs `admin:content`

Each leaves a line in the audit, as the routes do.
"""

from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope
from starlette.types import Send

from tailrace.audit import OK
from tailrace.errors import NotFound, TailraceError, Unavailable
from tailrace.ids import is_generation_id
from tailrace.scopes import Scope
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.dashboard import AuditStream, SnapshotStream
from tailrace_frontend.http.head import refuse_stream
from tailrace_frontend.http.stream_endpoint import open_stream, parse_cursor, refuse, respond, stream_headers
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.stream_connection import StreamConnection

NATIVE = WIRE_FORMATS["native"]
VIEWERS = frozenset({Scope.ADMIN_VIEW})
READERS_OF_CONTENT = frozenset({Scope.ADMIN_CONTENT})


async def answer_snapshots(services: Services, _: str, scope: AsgiScope, send: Send) -> None:
    """Send a snapshot each second, or the reason why not."""
    caller = None
    try:
        refuse_stream(scope)
        caller = await _identify(services, Headers(scope=scope))
        await services.check_scopes(caller, VIEWERS)
        if services.hub.draining:
            raise Unavailable("This frontend is stopping.")
        stream = SnapshotStream(
            services.hub, services.snapshots, scope[SCOPE], send, caller, services.callers.may_read,
            stream_headers(NATIVE),
        )  # fmt: skip
    except TailraceError as error:
        await _record(services, caller, "snapshots", "", error, scope)
        return await refuse(services, error, NATIVE, [], send)
    await _record(services, caller, "snapshots", "", None, scope)
    return await stream.run()


async def answer_audit(services: Services, _: str, scope: AsgiScope, send: Send) -> None:
    """Send the entries of the audit from the request's cursor, or from now on, or the reason why not."""
    headers, caller = Headers(scope=scope), None
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    try:
        refuse_stream(scope)
        caller = await _identify(services, headers)
        await services.check_scopes(caller, VIEWERS)
        cursor = parse_cursor(headers.getlist("last-event-id"), query.get("last_event_id"))
        if services.hub.draining:
            raise Unavailable("This frontend is stopping.")
        position = str(cursor or await services.audit.end())
        stream = AuditStream(
            services.hub, services.audit_feed, position, scope[SCOPE], send, caller, services.callers.may_read,
            stream_headers(NATIVE),
        )  # fmt: skip
    except TailraceError as error:
        await _record(services, caller, "follow_audit", "", error, scope)
        return await refuse(services, error, NATIVE, [], send)
    await _record(services, caller, "follow_audit", "", None, scope)
    return await stream.run()


async def answer_any_events(services: Services, generation_id: str, scope: AsgiScope, send: Send) -> None:
    """Send the log of any caller's generation, or the reason why not."""
    stream = await _open_or_refuse(services, generation_id, scope, send)
    if stream is not None:
        await stream.run()


async def _open_or_refuse(
    services: Services, generation_id: str, scope: AsgiScope, send: Send
) -> StreamConnection | None:
    headers, caller = Headers(scope=scope), None
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    try:
        caller = await _identify(services, headers)
        await services.check_scopes(caller, READERS_OF_CONTENT)
        cursor = parse_cursor(headers.getlist("last-event-id"), query.get("last_event_id"))
        if not is_generation_id(generation_id):
            raise NotFound
        if services.hub.draining:
            raise Unavailable("This frontend is stopping.")
        state = await services.log.state(generation_id)
        await _record(services, caller, "events", generation_id, None, scope)
        if state.is_final and cursor == state.position:
            await respond(send, 204, [])
            return None
        return await open_stream(services, NATIVE, state, cursor, caller, [], scope, send, watches=True)
    except TailraceError as error:
        await _record(services, caller, "events", generation_id, error, scope)
        await refuse(services, error, NATIVE, [], send)
        return None


async def _identify(services: Services, headers: Headers) -> ApiKey:
    """The caller, whose scopes are not checked yet: the audit has the name of one that is refused.

    Raises:
        TailraceError: as `Services.authenticate`.
    """
    return services.sessions.caller_of(headers) or await services.authenticate(headers)


async def _record(
    services: Services, caller: ApiKey | None, action: str, target: str, error: TailraceError | None, scope: AsgiScope
) -> None:
    outcome = OK if error is None else error.code or error.type
    address = scope["client"][0] if scope.get("client") else ""
    await services.audit.record(caller.owner if caller else "", action, target, outcome, address, is_read=True)
