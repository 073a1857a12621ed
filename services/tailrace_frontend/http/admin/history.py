"""GET /v1/admin/history: what all processes have counted, by the minute or by ten minutes."""

from typing import Any

from fastapi import Request, Response

from tailrace.errors import InvalidRequest
from tailrace.scopes import Scope
from tailrace.stats.history_reader import Slot
from tailrace.stats.slots import MINUTES, TEN_MINUTES
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require

router = admin_router("/history")

RANGES = {"hour": MINUTES, "days": TEN_MINUTES}
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def history(request: Request) -> Response:
    """The slots of `?range=hour` or `days`, the oldest first; the last one is not over."""
    given = request.query_params.get("range", "hour")
    if given not in RANGES:
        raise InvalidRequest("range: hour or days", param="range")
    slots = await request.app.state.services.history.last(RANGES[given])
    return JSONBytesResponse({"seconds": RANGES[given].seconds, "slots": [slot_json(slot) for slot in slots]})


def slot_json(slot: Slot) -> dict[str, Any]:
    """One slot, as JSON. `seconds`: its length so far. Durations are in seconds, null where there are none."""
    durations = {
        name: {"count": histogram.count, "mean": histogram.mean}
        | {key: histogram.quantile(part) for key, part in QUANTILES.items()}
        for name, histogram in slot.histograms.items()
    }
    return {
        "start": slot.start, "seconds": slot.seconds, "counts": slot.counts, "means": slot.means,
        "waiting_max": slot.waiting_max, "durations": durations,
    }  # fmt: skip
