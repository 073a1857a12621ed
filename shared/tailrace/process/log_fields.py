"""Fields of all log lines of a task: as of the generation that it runs. `TAILRACE_LOG_FORMAT=json` shows them.

A task that is started inherits them, so a worker binds them once for each run.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_fields")
_sources: list[Callable[[], Mapping[str, Any]]] = []


def bind(**fields: Any) -> None:
    """Add fields to every later line of this task and of those that it starts."""
    _bound.set({**_bound.get({}), **fields})


def add_source(source: Callable[[], Mapping[str, Any]]) -> None:
    """Have every line ask for fields: those of the current span."""
    if source not in _sources:
        _sources.append(source)


def bound() -> dict[str, Any]:
    """The fields of a line that is logged now."""
    fields = dict(_bound.get({}))
    for source in _sources:
        fields |= source()
    return fields
