"""How many event streams the frontends serve to each caller, for those who look: on the queue's server.

Each frontend reports its own every `REPORT_S`, while it has any. A report that is older than three of them is of a
frontend that has died.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec

from tailrace import keys
from tailrace.ids import new_token
from tailrace.redis.server import RedisServer, checked

REPORT_S = 3.0
REPORT_LIFE_MS = 9000


class Report(msgspec.Struct, frozen=True):
    """The streams of one frontend, by caller. `at`: ms of the server's clock."""

    at: int
    readers: dict[str, int]


class ReaderCounts:
    """The counts of all frontends. `report` belongs to a frontend."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._frontend = new_token()
        self._was_empty = True

    async def report(self, readers: Mapping[str, int]) -> None:
        """Report how many streams this frontend serves to each caller.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused.
        """
        present = {owner: count for owner, count in readers.items() if count > 0}
        if present:
            report = msgspec.json.encode(Report(await self._server.now(), present))
            name = keys.READERS
            checked(
                await self._server.execute_many(
                    [("HSET", name, self._frontend, report), ("PEXPIRE", name, 2 * REPORT_LIFE_MS)]
                )
            )
        elif not self._was_empty:
            await self._server.execute("HDEL", keys.READERS, self._frontend)
        self._was_empty = not present

    async def read(self) -> Counter[str]:
        """The streams of each caller, as the living frontends have reported them last.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        flat = await self._server.execute("HGETALL", keys.READERS)
        if not flat:
            return Counter()
        oldest = await self._server.now() - REPORT_LIFE_MS
        reports = {
            name: msgspec.json.decode(each, type=Report) for name, each in zip(flat[::2], flat[1::2], strict=True)
        }
        if dead := [name for name, report in reports.items() if report.at < oldest]:
            await self._server.execute("HDEL", keys.READERS, *dead)
        total: Counter[str] = Counter()
        for report in reports.values():
            if report.at >= oldest:
                total.update(report.readers)
        return total
