"""GET /v1/admin/me: who the caller is, and what it may do here."""

from fastapi import Request, Response

from tailrace.scopes import Scope, names_of
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import caller_of, require

router = admin_router("/me")


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def me(request: Request) -> Response:
    """The caller's name and scopes."""
    caller = caller_of(request)
    return JSONBytesResponse({"caller": caller.owner, "scopes": names_of(caller.scopes)})
