"""The generations of all owners.

GET    /v1/admin/generations                 a page, newest first; `?q=` as in `dashboard.search`, `?after=`, `?limit=`
POST   /v1/admin/generations/cancel          {"ids": […]}: up to 1,000
POST   /v1/admin/generations/delete          the same
GET    /v1/admin/generations/{id}            where it stands, and its measures
GET    /v1/admin/generations/{id}/timeline   its attempts, gaps and entries: the whole log is read
GET    /v1/admin/generations/{id}/content    its request and its output
GET    /v1/admin/generations/{id}/events     its log (`streams`)
       /v1/admin/generations/{id}/…          its readers, its log as a file, another run (`generation`)
POST   /v1/admin/generations/{id}/cancel
DELETE /v1/admin/generations/{id}

Only the content and the log have prompts or outputs. They need `admin:content`; with it the others have the preview of
the prompt and the messages of errors as well, which may quote either.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Query as QueryParameter
from fastapi import Request, Response

from tailrace.errors import Gone, InsufficientScope, InvalidBody, NotFound, TailraceError
from tailrace.events import Json
from tailrace.ids import is_generation_id
from tailrace.log.state import GenerationState
from tailrace.queue import Place
from tailrace.scopes import Scope
from tailrace_frontend.dashboard import Query, search
from tailrace_frontend.dashboard.detail import content_json, detail_json, row_json, timeline_json, trace_json
from tailrace_frontend.http.admin.audited_route import admin_router, note_unchanged, set_target
from tailrace_frontend.http.bodies import decode_body, read_body
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import caller_of, require
from tailrace_frontend.services import Services

PAGE = 50
MOST_AT_ONCE = 1000
AT_THE_SAME_TIME = 16
IDS_OF_AN_ENTRY = 7
"""Of the audit: 7 ids of 30 characters, and which ones they are, in 256 characters."""

MAX_BODY_BYTES = 64 * 1024
NO_STORE = {"cache-control": "no-store"}

router = admin_router("/generations")

Act = Callable[[GenerationState], Awaitable[bool]]
"""Act on a generation; whether that changed anything."""


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_generations(
    request: Request,
    q: str = "",
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = PAGE,
    after: Annotated[str | None, QueryParameter(max_length=64)] = None,
) -> Response:
    """A page of what the search finds; `id` where it names one generation."""
    services: Services = request.app.state.services
    place = None if after is None else Place.parse(after)
    query = Query.parse(q, await services.queue.server.now())
    has_content = Scope.ADMIN_CONTENT in caller_of(request).scopes
    if "tag" in query.values and not has_content:
        raise InsufficientScope.lacking([Scope.ADMIN_CONTENT])
    if query.id:
        return JSONBytesResponse({"object": "list", "id": query.id, "data": []}, headers=NO_STORE)
    found = await search(services.log, services.queue, query, limit, place)
    return JSONBytesResponse(
        {
            "object": "list",
            "data": [row_json(state, has_content=has_content) for state in found.states],
            "after": found.after and found.after.cursor,
            "looked_at": found.looked_at,
            "is_cut": found.is_cut,
        },
        headers=NO_STORE,
    )


@router.post("/cancel", dependencies=[require(Scope.ADMIN_OPERATE)])
async def cancel_many(request: Request) -> Response:
    """Cancel these generations. Those that have ended, or are gone, are counted and left as they are."""
    services: Services = request.app.state.services

    async def cancel(state: GenerationState) -> bool:
        if state.is_final:
            return False
        await services.generations.cancel(state.record.id, state.record.owner)
        return True

    return await _each(request, cancel)


@router.post("/delete", dependencies=[require(Scope.ADMIN_OPERATE)])
async def delete_many(request: Request) -> Response:
    """Delete these generations; those that run are cancelled first."""
    services: Services = request.app.state.services

    async def delete(state: GenerationState) -> bool:
        await services.generations.delete(state.record.id, state.record.owner)
        return True

    return await _each(request, delete)


@router.get("/{generation_id}", dependencies=[require(Scope.ADMIN_VIEW)])
async def get_generation(request: Request, generation_id: str) -> Response:
    """Where the generation stands, and what was measured of it."""
    services, state = await _find(request, generation_id)
    has_content = Scope.ADMIN_CONTENT in caller_of(request).scopes
    value = await detail_json(services.generations, services.log, state, has_content=has_content)
    value["trace"] = trace_json(state.record, services.settings.trace_url)
    return JSONBytesResponse(value, headers=NO_STORE)


@router.get("/{generation_id}/timeline", dependencies=[require(Scope.ADMIN_VIEW)])
async def get_timeline(request: Request, generation_id: str) -> Response:
    """The history of the generation, from its whole log."""
    services, state = await _find(request, generation_id)
    async with services.generations.reads:
        return JSONBytesResponse(await timeline_json(services.log, state), headers=NO_STORE)


@router.get("/{generation_id}/content", dependencies=[require(Scope.ADMIN_CONTENT)])
async def get_content(request: Request, generation_id: str) -> Response:
    """The request as the caller sent it, and the output so far."""
    services, state = await _find(request, generation_id)
    return JSONBytesResponse(content_json(await services.generations.snapshot(state)), headers=NO_STORE)


@router.post("/{generation_id}/cancel", dependencies=[require(Scope.ADMIN_OPERATE)])
async def cancel_generation(request: Request, generation_id: str) -> Response:
    """Cancel the generation. One that has ended stays as it is."""
    services, state = await _find(request, generation_id)
    if state.is_final:
        note_unchanged(request)
    state = await services.generations.cancel(generation_id, state.record.owner)
    return JSONBytesResponse({"id": generation_id, "status": state.status})


@router.delete("/{generation_id}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def delete_generation(request: Request, generation_id: str) -> Response:
    """Delete the generation; one that runs is cancelled first."""
    services, state = await _find(request, generation_id)
    await services.generations.delete(generation_id, state.record.owner)
    return Response(status_code=204)


async def _find(request: Request, generation_id: str) -> tuple[Services, GenerationState]:
    """
    Raises:
        NotFound, Gone: there is no such generation, or no longer.
    """
    services: Services = request.app.state.services
    _check_id(generation_id)
    return services, await services.log.state(generation_id)


def _check_id(generation_id: str) -> None:
    if not is_generation_id(generation_id):
        raise NotFound


async def _each(request: Request, act: Act) -> Response:
    """Act on each generation that the body names, a few at the same time.

    Raises:
        InvalidBody: the body names none, or too many.
    """
    services: Services = request.app.state.services
    ids = _ids(await decode_body(await read_body(request, MAX_BODY_BYTES)))
    states = await services.log.states(ids)
    found = [state for state in states if isinstance(state, GenerationState)]
    turn = asyncio.Semaphore(AT_THE_SAME_TIME)
    counts = {"unchanged": 0, "missing": len(ids) - len(found), "failed": 0}
    changed: list[str] = []

    async def one(state: GenerationState) -> None:
        async with turn:
            try:
                if await act(state):
                    changed.append(state.record.id)
                else:
                    counts["unchanged"] += 1
            except (NotFound, Gone):
                counts["missing"] += 1
            except TailraceError:
                counts["failed"] += 1

    try:
        await asyncio.gather(*map(one, found))
    finally:
        _note_targets(request, ids, changed)
    return JSONBytesResponse({"done": len(changed)} | counts, headers=NO_STORE)


def _note_targets(request: Request, ids: list[str], changed: list[str]) -> None:
    """The audit names what was changed: an entry for each few, however many ids were given."""
    if changed:
        return set_target(request, *_targets(changed))
    set_target(request, f"none of {len(ids)}")
    return note_unchanged(request)


def _targets(ids: list[str]) -> list[str]:
    """The ids as targets of entries of the audit, each of which has room for a few."""
    count = len(ids)
    if count <= IDS_OF_AN_ENTRY:
        return [f"{count}: {' '.join(ids)}"]
    starts = range(0, count, IDS_OF_AN_ENTRY)
    parts = [(start, ids[start : start + IDS_OF_AN_ENTRY]) for start in starts]
    return [f"{start + 1}-{start + len(part)} of {count}: {' '.join(part)}" for start, part in parts]


def _ids(body: Json) -> list[str]:
    ids = body.get("ids")
    if not isinstance(ids, list) or not all(isinstance(each, str) and is_generation_id(each) for each in ids):
        raise InvalidBody("ids: a list of the ids of generations is missing.", param="ids")
    unique = list(dict.fromkeys(ids))
    if not 0 < len(unique) <= MOST_AT_ONCE:
        raise InvalidBody(f"ids: there must be 1 to {MOST_AT_ONCE:,} of them.", param="ids")
    return unique
