"""More of one generation: who reads it, its log as a file, and another run of it.

GET  /v1/admin/generations/{id}/readers  its event streams at all frontends, with their cursors
GET  /v1/admin/generations/{id}/log      its log as it stands, as NDJSON; needs `admin:content`
POST /v1/admin/generations/{id}/rerun    a new generation of its caller, with the same request and options
"""

from collections.abc import AsyncIterator

import msgspec
from fastapi import Request, Response
from starlette.responses import StreamingResponse

from tailrace import jsoncodec
from tailrace.errors import NotFound
from tailrace.events import GenerationRecord, Json
from tailrace.ids import EntryId, is_generation_id
from tailrace.log import Log
from tailrace.log.reading import FIRST_PAGE
from tailrace.log.state import GenerationState
from tailrace.queue.roll_call import Question
from tailrace.scopes import Scope
from tailrace.wire import native
from tailrace_frontend.frontend_reports import ReadersReport
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

NO_STORE = {"cache-control": "no-store"}
SAME = ("background", "reasoning_summary", "logprobs", "api", "store")
"""Fields of a record that another run of its request has as well."""

router = admin_router("/generations/{generation_id}")


@router.get("/readers", dependencies=[require(Scope.ADMIN_VIEW)])
async def get_readers(request: Request, generation_id: str) -> Response:
    """Who reads the generation now. Frontends that do not answer at once are `missing`."""
    services, _ = await _find(request, generation_id)
    answers = await services.roll_call.ask(Question("readers", generation_id))
    reports = [msgspec.json.decode(each, type=ReadersReport) for each in answers.found]
    readers = sorted((each for report in reports for each in report.readers), key=lambda each: -each.seq)
    value: Json = {
        "object": "list",
        "data": msgspec.to_builtins(readers),
        "count": sum(report.count for report in reports),
        "frontends": answers.asked,
        "missing": max(0, answers.asked - len(answers.found)),
    }
    return JSONBytesResponse(value, headers=NO_STORE)


@router.get("/log", dependencies=[require(Scope.ADMIN_CONTENT)])
async def get_log(request: Request, generation_id: str) -> Response:
    """The log up to its newest entry, one entry a line."""
    services, state = await _find(request, generation_id)
    headers = NO_STORE | {"content-disposition": f'attachment; filename="{generation_id}.ndjson"'}
    lines = _lines(services.log, state.record, state.position)
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


async def _lines(log: Log, record: GenerationRecord, until: EntryId) -> AsyncIterator[bytes]:
    """The entries in pages of about 64 KiB; the next one is read once the client has taken the one before."""
    after, limit, is_last = EntryId(0, -1), FIRST_PAGE, False
    while not is_last:
        page = await log.page(record.id, after, limit, until=until)
        limit, is_last = page.limit, page.is_last
        if page.entries:
            after = page.entries[-1].id
            yield b"".join(native.encode_line(record, entry) for entry in page.entries)


@router.post("/rerun", dependencies=[require(Scope.ADMIN_OPERATE)])
async def rerun(request: Request, generation_id: str) -> Response:
    """Run the request once more, as a new generation of the same caller, whose limits and budgets hold for it. It does
    not end where it has no reader."""
    services, state = await _find(request, generation_id)
    record = state.record
    size = await services.log.request_bytes(generation_id)
    async with services.turn(size):
        body = jsoncodec.loads(bytes(await services.log.stored_request(generation_id)))
        options = msgspec.structs.replace(record.options, on_disconnect="continue")
        fields = {name: getattr(record, name) for name in SAME}
        created, _ = await services.generations.create(record.owner, body, options, None, size, fields)
    return JSONBytesResponse({"id": created.record.id, "status": created.status}, 201, NO_STORE)


async def _find(request: Request, generation_id: str) -> tuple[Services, GenerationState]:
    """
    Raises:
        NotFound, Gone: there is no such generation, or no longer.
    """
    services: Services = request.app.state.services
    if not is_generation_id(generation_id):
        raise NotFound
    return services, await services.log.state(generation_id)
