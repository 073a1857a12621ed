"""The response of an answer that its upstream runs in the background, so that no worker's death is a second call.

the upstream names it ──▶ stored in the generation's state ──▶ the worker dies ──▶ the next one reads it again
                                                           └─▶ it ends, or is cancelled: nothing is stored
"""

import asyncio
from collections.abc import Callable

STORE_S = 0.5
"""For which the first content waits until the id is stored: a round trip, unless Redis is away."""


class BackgroundResponse:
    """Where the answer of an attempt is kept. `upstream` and `id` are empty where it is kept nowhere.

    `is_taken_over`: another worker reads the response, or will: it must not be cancelled. `on_change` is called when
    `stored` has changed, and stores it by the task that it returns.
    """

    def __init__(self, stored: str = "") -> None:
        self.upstream, _, self.id = stored.partition(" ")
        self.is_taken_over = False
        self.on_change: Callable[[], asyncio.Task[None] | None] = lambda: None

    @property
    def stored(self) -> str:
        """As the generation's state has it: the upstream's name, which has no space, and its id of the response."""
        return f"{self.upstream} {self.id}" if self.id else ""

    def id_at(self, upstream: str) -> str:
        """Its id at this upstream; empty where it runs at another one, or nowhere."""
        return self.id if upstream == self.upstream else ""

    async def begin(self, upstream: str, response_id: str) -> None:
        """The upstream has named it. The id is stored before any content: a worker that dies leaves it behind."""
        if storing := self._set(upstream, response_id):
            await asyncio.wait([storing], timeout=STORE_S)

    def end(self) -> None:
        """It has ended at the upstream, or was cancelled there."""
        self._set("", "")

    def _set(self, upstream: str, response_id: str) -> asyncio.Task[None] | None:
        if (upstream, response_id) == (self.upstream, self.id):
            return None
        self.upstream, self.id = upstream, response_id
        return self.on_change()
