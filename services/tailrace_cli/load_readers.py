"""The readers of `tailrace dev --load`: they follow answers at the frontend, as pages and programs do."""

import asyncio
import contextlib
import logging
import random
import re
from typing import NamedTuple

import aiohttp

from tailrace_frontend.callers import OPEN

STAYS_S = (1.0, 4.0)
"""For which a reader stays that leaves."""

AWAY_S = 1.0
"""For which a reader is away that returns."""

CHUNK = 300
REFUSED = (401, 403)
EVENT_ID = re.compile(rb"^id: (\S+)", re.MULTILINE)

logger = logging.getLogger(__name__)


class Reader(NamedTuple):
    """How an answer is read. `bytes_per_second`: 0 for as fast as it comes. `leaves`: after some seconds; `returns`:
    and reads on a second later, from its cursor."""

    bytes_per_second: int = 0
    leaves: bool = False
    returns: bool = False


LIVE, SLOW = Reader(), Reader(bytes_per_second=1500)
LEAVING, RETURNING = Reader(leaves=True), Reader(leaves=True, returns=True)


class Readers:
    """The readers at one frontend. `key`: with the scope `admin:content`, because the answers are many callers'; empty
    in open mode."""

    def __init__(self, http: aiohttp.ClientSession, key: str) -> None:
        self._http = http
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._are_refused = False

    async def read(self, generation_id: str, owner: str, reader: Reader) -> None:
        """Read an answer in this way. A connection that breaks is the end of it."""
        route = "/v1/generations" if owner == OPEN else "/v1/admin/generations"
        reading = _Reading(f"{route}/{generation_id}/events", reader.bytes_per_second)
        with contextlib.suppress(aiohttp.ClientError):
            try:
                async with asyncio.timeout(random.uniform(*STAYS_S) if reader.leaves else None):  # noqa: S311
                    await self._follow(reading)
            except TimeoutError:
                if reader.returns:
                    await asyncio.sleep(AWAY_S)
                    await self._follow(reading)

    async def _follow(self, reading: "_Reading") -> None:
        if not self._are_refused and await reading.follow(self._http, self._headers) in REFUSED:
            logger.warning("the load has no readers: TAILRACE_API_KEY has no key with the scope admin:content")
            self._are_refused = True


class _Reading:
    """One answer, and the cursor up to which it was read."""

    def __init__(self, path: str, bytes_per_second: int) -> None:
        self._path = path
        self._bytes_per_second = bytes_per_second
        self._cursor = ""

    async def follow(self, http: aiohttp.ClientSession, headers: dict[str, str]) -> int:
        """Read to the end. The status of the answer."""
        headers = headers | ({"last-event-id": self._cursor} if self._cursor else {})
        async with http.get(self._path, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            rest = b""
            while answer.status not in REFUSED and (data := await answer.content.read(CHUNK)):
                whole, _, rest = (rest + data).rpartition(b"\n\n")
                if ids := EVENT_ID.findall(whole):
                    self._cursor = ids[-1].decode()
                if self._bytes_per_second:
                    await asyncio.sleep(len(data) / self._bytes_per_second)
            return answer.status
