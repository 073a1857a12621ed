"""Generations through a frontend, as their caller has them: for `ls`, `show` and `cancel` with an address (`--url`).

A key with the scope `read` lists and shows, one with `cancel` cancels. The values are those of the commands over Redis.
"""

from urllib.parse import quote

from tailrace.errors import InvalidRequest, NotFound
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.frontend_client import FrontendClient, rows_of

PATH = "/v1/generations"
PAGE = 100
FINAL = ("completed", "incomplete", "failed", "cancelled")
ROW = ("id", "status", "model", "created_at", "attempt", "tokens", "preview")
"""Of a list."""

OF_CONNECTION = ("events_url", "last_event_id")
"""What is for a client that follows the events; the address may have a ticket."""

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
    """The generations of the key's caller."""

    def __init__(self, frontend: FrontendClient) -> None:
        self._frontend = frontend

    async def list(self, limit: int) -> list[Json]:
        """The newest ones."""
        found: list[Json] = []
        has_more = True
        while has_more and len(found) < limit:
            after = {"after": found[-1]["id"]} if found else {}
            page = await self._frontend.get(PATH, limit=min(PAGE, limit - len(found)), **after)
            found += rows_of(page)
            has_more = bool(page.get("has_more"))
        return [{name: row.get(name) for name in ROW} for row in found]

    async def get(self, generation_id: str) -> Json:
        """The whole of one, with its progress; without an id the latest one.

        Raises:
            NotFound: there is none.
        """
        if not generation_id:
            latest = await self.list(1)
            if not latest:
                raise NotFound("there is no generation of this caller yet")
            generation_id = latest[0]["id"]
        path = f"{PATH}/{quote(generation_id, safe='')}"
        generation, summary = await self._frontend.get(path), await self._frontend.get(path, output="false")
        for name in OF_CONNECTION:
            generation.pop(name, None)
        return generation | {name: summary[name] for name in PROGRESS if name in summary}

    async def cancel(self, generation_id: str) -> tuple[str, bool]:
        """End one; its status, and whether it had not ended before.

        Raises:
            NotFound, Gone: there is none, or no longer.
        """
        path = f"{PATH}/{quote(generation_id, safe='')}"
        before = await self._frontend.get(path, output="false")
        if before["status"] in FINAL:
            return before["status"], False
        answer = await self._frontend.send("POST", f"{path}/cancel")
        return answer["status"], True
