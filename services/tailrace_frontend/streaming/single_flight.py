"""Readers of one log at the same position read it once.

That is more frequent than chance: after a restart or a deployment, all readers of a log reconnect at the same time.
Nothing is cached. Only a read that starts while the same page is being read gets the same page.
"""

import asyncio

from tailrace.ids import EntryId
from tailrace.log import Log, Page


class SingleFlightPages:
    """The pages of one log that are being read."""

    __slots__ = ("_generation_id", "_reading")

    def __init__(self, generation_id: str) -> None:
        self._generation_id = generation_id
        self._reading: dict[tuple[EntryId, int, bool, int], asyncio.Future[Page]] = {}

    async def read(self, log: Log, after: EntryId, limit: int, *, coalesce: bool, resync_count: int) -> Page:
        """As `log.page`. `resync_count`: the live tail's; a page that was requested before it rose may be too old for a
        reader that comes after.
        """
        place = after, limit, coalesce, resync_count
        while (reading := self._reading.get(place)) is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                return reading.result()
        reading = self._reading[place] = asyncio.get_running_loop().create_future()
        try:
            reading.set_result(await log.page(self._generation_id, after, limit, coalesce=coalesce))
        except Exception as error:  # noqa: BLE001 - any error belongs to all readers that wait for the page
            reading.set_exception(error)
        finally:
            del self._reading[place]
            reading.cancel()  # without effect unless this reader has left: then the next one reads the page
        return reading.result()
