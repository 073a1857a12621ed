"""Readers of one log who stand at the same place read it once.

They do so more often than chance has it: after a restart or a deploy everybody who followed a log comes back to it.
Nothing is kept for anybody: only who asks while a page is on its way is given the same one.
"""

import asyncio

from tailrace.ids import EntryId
from tailrace.log import Log, Page


class SingleFlightPages:
    """The pages of one log that are on their way."""

    __slots__ = ("_coming", "_generation")

    def __init__(self, generation_id: str) -> None:
        self._generation = generation_id
        self._coming: dict[tuple[EntryId, int, bool, int], asyncio.Future[Page]] = {}

    async def read(self, log: Log, after: EntryId, limit: int, *, coalesce: bool, resync_count: int) -> Page:
        """As `log.page`. `resync_count`: the tail's. A page that was asked for before they rose does not settle
        them."""
        place = after, limit, coalesce, resync_count
        while (coming := self._coming.get(place)) is not None:
            await asyncio.wait([coming])
            if not coming.cancelled():
                return coming.result()
        coming = self._coming[place] = asyncio.get_running_loop().create_future()
        try:
            coming.set_result(await log.page(self._generation, after, limit, coalesce=coalesce))
        except Exception as error:  # noqa: BLE001 - whatever it is: everybody who waits is told, at the same time
            coming.set_exception(error)
        finally:
            del self._coming[place]
            coming.cancel()  # where who asked has left: the next who waits asks for it
        return coming.result()
