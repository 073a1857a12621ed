"""The side to which a cursor writes."""

from typing import Protocol


class FrameSink(Protocol):
    """A client's connection, as a cursor knows it."""

    @property
    def is_idle(self) -> bool:
        """Whether the sink's task waits for `wake`; otherwise it will call `advance` before it waits."""

    @property
    def has_room(self) -> bool:
        """Whether more may be written now."""

    @property
    def has_begun(self) -> bool:
        """Whether the response has; nothing is written before."""

    async def begin(self) -> None:
        """Begin the response."""

    def write(self, data: bytes) -> None:
        """Send bytes. A sink that is full then calls `wake` itself."""

    def hold(self, size: int) -> bool:
        """Count `size` bytes, in all, that are kept for this client beside its socket's buffer. False: there is no room
        for them in this process."""

    def wake(self) -> None:
        """Have the sink's task call `advance`, or handle the final state."""

    def fail(self, error: Exception) -> None:
        """Raise an error in the sink's task."""
