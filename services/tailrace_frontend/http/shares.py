"""Links by which others read one generation: its log, and nothing else.

POST   /v1/generations/{id}/shares             create: {"expires_in_s"}, 15 minutes by default; needs `read` as well
GET    /v1/generations/{id}/shares             list, newest first, without the links
DELETE /v1/generations/{id}/shares/{share_id}  revoke, and end the streams that it opened
"""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from tailrace.errors import InvalidRequest, NotFound
from tailrace.events import Json
from tailrace.ids import is_generation_id
from tailrace.log.state import GenerationState
from tailrace.scopes import READERS, Scope
from tailrace.shares import MAX_SHARE_S, Share
from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import read_body
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import caller_of, require
from tailrace_frontend.services import Services

MAX_BODY_BYTES = 4 * 1024

router = APIRouter(prefix="/v1/generations/{generation_id}/shares", tags=["generations"])


class CreateShare(BaseModel):
    """For how long the link works. It ends with the log in any case."""

    expires_in_s: int = Field(900, ge=1, le=MAX_SHARE_S)


@router.post("", status_code=201, dependencies=[require(Scope.CREATE)], response_model=schemas.SharedLink)
async def create_share(request: Request, generation_id: str) -> Response:
    """A link by which anyone reads this generation, live or finished, without a key."""
    services: Services = request.app.state.services
    maker = caller_of(request)
    await services.check_scopes(maker, READERS)
    state = await _find(services, request, generation_id)
    if services.callers.are_open:
        raise InvalidRequest("The server is in open mode: a link needs no ticket there.")
    given = await _read(request)
    share = await services.shares.create(state, given.expires_in_s)
    ticket = quote(services.callers.share_ticket(state.record, share, maker), safe="")
    links = {
        "url": f"/?id={generation_id}#ticket={ticket}",
        "events_url": f"/v1/generations/{generation_id}/events?ticket={ticket}",
    }
    return JSONBytesResponse(_as_json(share) | links, 201, {"Cache-Control": "no-store"})


@router.get("", dependencies=[require(Scope.READ)], response_model=schemas.ShareList)
async def list_shares(request: Request, generation_id: str) -> Response:
    """The links that work now."""
    services: Services = request.app.state.services
    found = await services.shares.list(await _find(services, request, generation_id))
    return JSONBytesResponse({"object": "list", "data": [_as_json(share) for share in found]})


@router.delete("/{share_id}", dependencies=[require(Scope.CANCEL)], response_model=schemas.Deleted)
async def revoke_share(request: Request, generation_id: str, share_id: str) -> Response:
    """End the link, and the streams that it opened, on all frontends."""
    services: Services = request.app.state.services
    await services.shares.revoke(await _find(services, request, generation_id), share_id)
    return JSONBytesResponse({"id": share_id, "deleted": True})


async def _find(services: Services, request: Request, generation_id: str) -> GenerationState:
    caller = await services.identify(request.headers)
    if not is_generation_id(generation_id):
        raise NotFound
    async with services.rate_limits.turn(caller.owner):
        return await services.generations.find(generation_id, caller.owner)


async def _read(request: Request) -> CreateShare:
    value = schemas.decode(await read_body(request, MAX_BODY_BYTES) or b"{}")
    try:
        return CreateShare.model_validate(value)
    except ValidationError as error:
        raise schemas.invalid_body(schemas.first_problem(error)) from None


def _as_json(share: Share) -> Json:
    return {"id": share.id, "created_at": share.created, "expires_at": share.expires}
