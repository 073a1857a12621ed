"""Readers of one log at the same position read it once.

That is more frequent than chance: after a restart or a deployment, all readers of a log reconnect at the same time.
A read that starts while the same page is being read gets the same page. So does one that starts within a second, where
the log has other readers (`recent_pages`).
"""

import asyncio
import itertools
from collections.abc import Callable

from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace_frontend.streaming.recent_pages import EncodedPage, Place, RecentPages

_NUMBERS = itertools.count()


class SingleFlightPages:
    """The pages of one log that are being read."""

    __slots__ = ("_generation_id", "_number", "_reading", "_recent")

    def __init__(self, generation_id: str, recent: RecentPages) -> None:
        self._generation_id = generation_id
        self._number = next(_NUMBERS)  # a page is only for readers of the same live tail
        self._recent = recent
        self._reading: dict[Place, asyncio.Future[EncodedPage]] = {}

    async def read(
        self,
        log: Log,
        after: EntryId,
        limit: int,
        *,
        coalesce: bool,
        resync_count: int,
        keep: Callable[[], bool] = lambda: False,
    ) -> EncodedPage:
        """As `log.page`. `resync_count`: the live tail's; a page that was requested before it rose may be too old for a
        reader that comes after. `keep`: whether to keep the page for readers that come within a second; asked when it
        has been read.
        """
        place = self._number, after, limit, coalesce, resync_count
        if (kept := self._recent.find(place)) is not None:
            return kept
        while (reading := self._reading.get(place)) is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                return reading.result()
        reading = self._reading[place] = asyncio.get_running_loop().create_future()
        try:
            found = EncodedPage(await log.page(self._generation_id, after, limit, coalesce=coalesce))
            if keep():
                self._recent.keep(place, found)
            reading.set_result(found)
        except Exception as error:  # noqa: BLE001 - any error belongs to all readers that wait for the page
            reading.set_exception(error)
        finally:
            del self._reading[place]
            reading.cancel()  # without effect unless this reader has left: then the next one reads the page
        return reading.result()
