"""Blocked callers and revoked tickets.

GET    /v1/admin/blocks            the blocked callers
PUT    /v1/admin/blocks/{caller}   block: {"reason"}; its streams end, and its requests are answered 403
DELETE /v1/admin/blocks/{caller}   end the block
POST   /v1/admin/revocations       {"generation", "ticket"}: refuse it from now on, and end the streams that it opened
"""

from fastapi import Path, Request, Response
from pydantic import Field

from tailrace.access import Block
from tailrace.events import Json
from tailrace.scopes import Scope
from tailrace_frontend.http.admin.audited_route import admin_router, set_target
from tailrace_frontend.http.admin.bodies import Strict, read
from tailrace_frontend.http.admin.keys import NAME
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import caller_of, check_act_on, require
from tailrace_frontend.services import Services

router = admin_router()


class BlockCaller(Strict):
    """Why the caller is blocked, for other operators."""

    reason: str = Field("", max_length=256)


class RevokeTicket(Strict):
    """The ticket, as `?ticket=` has it, and the id of the generation that it reads."""

    generation: str = Field(max_length=64)
    ticket: str = Field(min_length=1, max_length=1024)


@router.get("/blocks", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_blocks(request: Request) -> Response:
    """The blocked callers, by name."""
    services: Services = request.app.state.services
    found = await services.access_control.blocked()
    return JSONBytesResponse({"object": "list", "data": [_as_json(name, found[name]) for name in sorted(found)]})


@router.put("/blocks/{caller}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def block_caller(request: Request, caller: str = Path(pattern=NAME)) -> Response:
    """Refuse a caller from now on. A repetition replaces the reason."""
    services: Services = request.app.state.services
    await check_act_on(request, caller)
    given = await read(request, BlockCaller)
    block = await services.access_control.block(caller, caller_of(request).owner, given.reason)
    return JSONBytesResponse(_as_json(caller, block))


@router.delete("/blocks/{caller}", dependencies=[require(Scope.ADMIN_OPERATE)])
async def unblock_caller(request: Request, caller: str) -> Response:
    """Serve the caller again."""
    services: Services = request.app.state.services
    await check_act_on(request, caller)
    await services.access_control.unblock(caller)
    return JSONBytesResponse({"caller": caller, "blocked": False})


@router.post("/revocations", dependencies=[require(Scope.ADMIN_OPERATE)])
async def revoke_ticket(request: Request) -> Response:
    """Refuse a ticket. Its generation gets another one."""
    services: Services = request.app.state.services
    given = await read(request, RevokeTicket)
    set_target(request, given.generation)
    await services.access_control.revoke_ticket(given.ticket, given.generation)
    return JSONBytesResponse({"revoked": True})


def _as_json(name: str, block: Block) -> Json:
    return {"caller": name, "blocked_at": block.at, "blocked_by": block.by, "reason": block.reason}
