"""What receives the messages of many channels: a connection (`subscriber`), or one to each primary of a cluster."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

Listener = Callable[[bytes | None], None]
"""Called with each message, and with None where messages may have been missed."""


class Channels(ABC):
    """Receives until closed; reconnects by itself. Moments are of `time.monotonic()`."""

    @property
    @abstractmethod
    def disconnected_since(self) -> float | None:
        """When the connection was lost, or when this was made if there was none yet; None while connected. Of several:
        of the first that was lost."""

    @property
    def cut_off_since(self) -> float | None:
        """As `disconnected_since`, without a server of a cluster whose failure the others have seen: it is not this
        process that fails to reach it."""
        return self.disconnected_since

    @property
    @abstractmethod
    def connected_at(self) -> float:
        """When the newest connection was made."""

    @property
    def connected(self) -> bool:
        """Whether messages are being received right now."""
        return self.disconnected_since is None

    @property
    def connected_for(self) -> float:
        """Seconds for which messages have been received; 0 while not connected."""
        return time.monotonic() - self.connected_at if self.connected else 0.0

    def of(self, channel: str) -> "Channels":  # noqa: ARG002 - where there are several connections
        """The connection that receives this channel."""
        return self

    @abstractmethod
    def start(self) -> None:
        """Connect in the background."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect for good."""

    @abstractmethod
    def add(self, channel: str, listener: Listener) -> None:
        """Subscribe to a channel. The listener is called with None once the server has confirmed."""

    @abstractmethod
    def remove(self, channel: str) -> None:
        """Unsubscribe; without effect on a channel that has no listener."""
