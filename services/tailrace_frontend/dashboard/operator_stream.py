"""An operator's connection with an event stream that is no generation's: what each of them has in common.

It is one of the hub's connections, and so has a place of its own, and ends when its key is withdrawn, when its client
reads nothing for too long, and when this process stops. A client is then sent a retry hint, as every reader is.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from starlette.types import Send

from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.client_connection import ClientConnection
from tailrace_frontend.streaming.hub import Hub
from tailrace_frontend.streaming.stream_connection import retry_ms


class OperatorStream:
    """One client. It is admitted when it is made, and must then be `run`.

    Raises:
        RateLimited: as `Hub.join`.
    """

    def __init__(
        self, hub: Hub, client: ClientConnection, send: Send, caller: ApiKey, may_look: Callable[[ApiKey], bool],
        headers: Sequence[tuple[bytes, bytes]],
    ) -> None:  # fmt: skip
        self.owner = caller.owner
        self._hub = hub
        self._client = client
        self._send = send
        self._caller = caller
        self._may_look = may_look
        self._headers = headers
        self._awake = asyncio.Event()
        self._is_draining = False
        self._blocked_since: float | None = None
        self._checked_at = time.monotonic()
        hub.join(self)

    async def run(self) -> None:
        """Answer 200, then with the events until the client has left or this process stops."""
        client = self._client
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
            client.on_lost = self.wake
            await self._follow()
            if not client.lost:
                client.write_chunk(b"retry: %d\n\n" % retry_ms())
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            client.on_lost = None
            self._leave()
            self._hub.leave(self)

    def wake(self) -> None:
        """Have `_follow` go on."""
        self._awake.set()

    @property
    def _is_over(self) -> bool:
        return self._client.lost or self._is_draining

    async def _wait(self) -> None:
        """Wait for `wake`."""
        await self._awake.wait()
        self._awake.clear()

    # ── of each kind ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _follow(self) -> None:
        """Write events until `_is_over`."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Undo what `_follow` has begun; also where it has not."""
        raise NotImplementedError

    def _on_tick(self, now: float) -> None:
        """The hub's clock, while the client reads."""

    # ── called by the hub ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def activity(self) -> str:
        return "live" if self._blocked_since is None else "blocked"

    def check_access(self) -> None:
        if not self._may_look(self._caller):
            self.abort()

    def drain(self) -> None:
        self._is_draining = True
        self.wake()

    def abort(self) -> None:
        self._client.abort()

    def tick(self, now: float) -> None:
        settings = self._hub.settings
        if now - self._checked_at >= settings.keepalive_s / 2:
            self._checked_at = now
            self.check_access()
        if self._blocked_since is None:
            self._on_tick(now)
        elif now - self._blocked_since > settings.client_write_timeout_s:
            self.abort()
