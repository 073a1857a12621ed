"""GET /v1/admin/audit: who did what.

The newest entries first, and `?before=<id>` the next page; or `?after=<id>`: what was added since, oldest first.
`GET /v1/admin/audit/events` follows (`streams`).
"""

from typing import Annotated

from fastapi import Query, Request, Response

from tailrace.scopes import Scope
from tailrace_frontend.dashboard import entry_json
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

ENTRY_ID = r"^[0-9]{1,16}-[0-9]{1,16}$"

router = admin_router("/audit")

EntryId = Annotated[str | None, Query(pattern=ENTRY_ID)]


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_audit(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100, before: EntryId = None, after: EntryId = None
) -> Response:
    """A page of the audit. `after` goes before `before`."""
    services: Services = request.app.state.services
    if after is None:
        found = await services.audit.newest(limit + 1, before or "")
    else:
        found = await services.audit.following(limit + 1, after)
    data = [entry_json(entry) for entry in found[:limit]]
    return JSONBytesResponse({"object": "list", "data": data, "has_more": len(found) > limit})
