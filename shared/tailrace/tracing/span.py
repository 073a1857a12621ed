"""A span as the product uses it. This one is not recorded: it stands for every span while tracing is off."""

from types import TracebackType
from typing import Any, Self


class Span:
    """Entered, it is the current span of its task. `traceparent` names it to other processes; "" for none."""

    is_recording = False

    @property
    def traceparent(self) -> str:
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""

    def set(self, **values: Any) -> None:
        """Set attributes, by the keys of `names`."""

    def fail(self, error_type: str) -> None:
        """It has failed, with an error of this type: a code, and never a message, which may have content."""

    def end(self) -> None:
        """End a span that is not entered."""


OFF = Span()
