"""API keys of run time.

POST   /v1/admin/keys              create: {"caller", "scopes", "expires_at", "name"}; the answer has the key, this once
GET    /v1/admin/keys              list, newest first, those of the settings too; `?caller=`: of one caller
POST   /v1/admin/keys/{id}/rotate  another key in its place; {"overlap_s"}: how long the old one stays valid
DELETE /v1/admin/keys/{id}         revoke, and end the streams that it opened; also a key of the settings
"""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from tailrace.access import KeyRecord
from tailrace.errors import InvalidBody
from tailrace.events import Json
from tailrace.scopes import CALLER_SCOPES, Scope, Scopes, scopes_of
from tailrace_frontend.access_control import ListedKey, NewKey
from tailrace_frontend.http.admin.audited_route import admin_router, set_target
from tailrace_frontend.http.admin.bodies import Strict, read
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import caller_of, require
from tailrace_frontend.services import Services

MAX_OVERLAP_S = 30 * 24 * 3600
LATEST_EXPIRY = 253_402_300_799
"""The end of the year 9999, in epoch seconds: the last one that every client can show as a date."""

NAME = r"^[A-Za-z0-9_.-]{1,64}$"
NO_STORE = {"Cache-Control": "no-store"}

router = admin_router("/keys")


class CreateKey(Strict):
    """A key that is to be created. `expires_at` in epoch seconds; None: never."""

    caller: str = Field(pattern=NAME)
    scopes: list[str] | None = Field(None, min_length=1)
    expires_at: int | None = Field(None, le=LATEST_EXPIRY)
    name: str = Field("", max_length=64)


class RotateKey(Strict):
    """For how long the old key stays valid."""

    overlap_s: int = Field(3600, ge=0, le=MAX_OVERLAP_S)


@router.post("", dependencies=[require(Scope.ADMIN)])
async def create_key(request: Request) -> Response:
    """A new key of a caller."""
    services: Services = request.app.state.services
    given = await read(request, CreateKey)
    set_target(request, given.caller)
    scopes = CALLER_SCOPES if given.scopes is None else _scopes(given.scopes)
    by = caller_of(request).owner
    new = await services.access_control.create_key(given.caller, scopes, by, given.expires_at, given.name)
    set_target(request, f"{given.caller}/{new.record.id}")
    return _created(new)


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_keys(request: Request, caller: Annotated[str, Query(max_length=64)] = "") -> Response:
    """The keys, without what they are."""
    services: Services = request.app.state.services
    listed = await services.access_control.list_keys(caller)
    return JSONBytesResponse({"object": "list", "data": [_listed_json(each) for each in listed]})


@router.post("/{key_id}/rotate", dependencies=[require(Scope.ADMIN)])
async def rotate_key(request: Request, key_id: str) -> Response:
    """Another key with the same caller, scopes and lifetime."""
    services: Services = request.app.state.services
    given = await read(request, RotateKey)
    new = await services.access_control.rotate_key(key_id, caller_of(request).owner, given.overlap_s)
    set_target(request, f"{new.record.owner}/{key_id}")
    return _created(new)


@router.delete("/{key_id}", dependencies=[require(Scope.ADMIN)])
async def revoke_key(request: Request, key_id: str) -> Response:
    """End the key."""
    services: Services = request.app.state.services
    await services.access_control.revoke_key(key_id)
    return JSONBytesResponse({"id": key_id, "revoked": True})


def _scopes(names: list[str]) -> Scopes:
    try:
        return scopes_of(names)
    except ValueError:
        raise InvalidBody(f"scopes: these exist: {', '.join(Scope)}", param="scopes") from None


def _created(new: NewKey) -> Response:
    return JSONBytesResponse(_as_json(new.record) | {"key": new.secret}, 201, NO_STORE)


def _listed_json(listed: ListedKey) -> Json:
    beside = {
        "source": "settings" if listed.is_configured else "admin",
        "revoked": listed.is_revoked,
        "last_used_at": listed.used,
    }
    return _as_json(listed.record) | beside


def _as_json(record: KeyRecord) -> Json:
    return {
        "id": record.id,
        "caller": record.owner,
        "name": record.name,
        "hint": record.hint,
        "scopes": record.scopes,
        "created_at": record.created or None,
        "created_by": record.created_by,
        "expires_at": record.expires,
    }
