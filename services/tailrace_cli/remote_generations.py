"""Generations through a frontend: for `ls`, `show` and `cancel` with an address (`--url`).

A key with the scope `read` lists and shows those of its caller, one with `cancel` cancels them. What a key may not do
so, or does not find, is asked for by the routes of operators, which have the generations of all callers. The values are
those of the commands over Redis.
"""

from urllib.parse import quote

from tailrace.errors import InsufficientScope, InvalidRequest, NotFound
from tailrace.events import Json
from tailrace.ids import short_name
from tailrace.settings import Settings
from tailrace_cli.frontend_client import ADMIN, FrontendClient, rows_of

PATH, OF_ALL = "/v1/generations", f"{ADMIN}/generations"
PAGE = 100
FINAL = ("completed", "incomplete", "failed", "cancelled")
ROW = ("id", "status", "model", "created_at", "attempt", "tokens", "preview")
"""Of a list."""

OF_CONNECTION = ("events_url", "last_event_id")
"""What is for a client that follows the events; the address may have a ticket."""

OF_DETAIL = (
    "id", "status", "model", "created_at", "usage", "cost", "timings", "stream", "upstream", "format",
    "continued", "attempt",
)  # fmt: skip
"""What operators see of a generation as its caller does."""

PROGRESS = ("attempt", "worker", "expires_at")


def is_wanted(settings: Settings, caller: str = "") -> bool:
    """Whether a frontend is to be asked, and not Redis.

    Raises:
        InvalidRequest: `caller` is named as well; a frontend knows the caller by its key.
    """
    if settings.url and caller:
        raise InvalidRequest("--caller is for Redis; at a frontend (TAILRACE_URL) the key names the caller")
    return bool(settings.url)


class RemoteGenerations:
    """The generations that a key gives access to."""

    def __init__(self, frontend: FrontendClient) -> None:
        self._frontend = frontend

    async def newest(self, limit: int) -> list[Json]:
        """The newest ones of the key's caller."""
        found: list[Json] = []
        has_more = True
        while has_more and len(found) < limit:
            after = _after(found[-1]["id"] if found else "")
            page = await self._frontend.get(PATH, limit=min(PAGE, limit - len(found)), **after)
            found += rows_of(page)
            has_more = bool(page.get("has_more"))
        return [{name: row.get(name) for name in ROW} for row in found]

    async def search(self, limit: int, words: str) -> list[Json]:
        """The newest ones of all callers that the search finds, as the dashboard has them."""
        found: list[Json] = []
        after: str | None = ""
        while after is not None and len(found) < limit:
            page = await self._frontend.get(OF_ALL, q=words, limit=min(PAGE, limit - len(found)), **_after(after))
            if page.get("id"):
                return [await self._frontend.get(f"{OF_ALL}/{quote(page['id'], safe='')}")]
            found += rows_of(page)
            after = page.get("after")
        return found

    async def get(self, generation_id: str) -> Json:
        """The whole of one, with its progress; without an id the latest one of the caller.

        Raises:
            NotFound: there is none.
        """
        if not generation_id:
            latest = await self.newest(1)
            if not latest:
                raise NotFound("there is no generation of this caller yet")
            generation_id = latest[0]["id"]
        try:
            return await self._get(_path(PATH, generation_id))
        except (NotFound, InsufficientScope) as error:
            try:
                return await self._get_as_operator(_path(OF_ALL, generation_id))
            except InsufficientScope:
                raise error from None

    async def _get(self, path: str) -> Json:
        generation, summary = await self._frontend.get(path), await self._frontend.get(path, output="false")
        for name in OF_CONNECTION:
            generation.pop(name, None)
        return generation | {name: summary[name] for name in PROGRESS if name in summary}

    async def _get_as_operator(self, path: str) -> Json:
        """Without the request and the output, where the key may not read them."""
        detail = await self._frontend.get(path)
        reasons = detail.get("finish")
        try:
            content = await self._frontend.get(f"{path}/content")
        except InsufficientScope:
            content = {"request": None, "output": []}
        return {
            "object": "generation",
            **{name: detail.get(name) for name in (*OF_DETAIL, "owner", "ended_at", "expires_at")},
            "request": content["request"],
            "output": content["output"],
            "finish": reasons and [{"index": n, "finish_reason": reason} for n, reason in enumerate(reasons)],
            "error": detail.get("failure"),
            "queue_position": detail.get("position"),
            "worker": short_name(detail.get("worker") or "") or None,
        }

    async def cancel(self, generation_id: str) -> tuple[str, bool]:
        """End one; its status, and whether it had not ended before.

        Raises:
            NotFound, Gone: there is none, or no longer.
        """
        try:
            return await self._cancel(_path(PATH, generation_id), output="false")
        except (NotFound, InsufficientScope) as error:
            try:
                return await self._cancel(_path(OF_ALL, generation_id))
            except InsufficientScope:
                raise error from None

    async def _cancel(self, path: str, **query: str) -> tuple[str, bool]:
        before = await self._frontend.get(path, **query)
        if before["status"] in FINAL:
            return before["status"], False
        answer = await self._frontend.send("POST", f"{path}/cancel")
        return answer["status"], True


def _path(route: str, generation_id: str) -> str:
    return f"{route}/{quote(generation_id, safe='')}"


def _after(generation_id: str) -> dict[str, str]:
    return {"after": generation_id} if generation_id else {}
