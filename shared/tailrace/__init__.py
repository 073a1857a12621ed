"""Tailrace: LLM output that survives. The vocabulary that workers and frontends share."""

from tailrace.errors import TailraceError
from tailrace.events import Entry, Event, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import Log
from tailrace.log.output import Output
from tailrace.settings import Settings

__all__ = ["Entry", "EntryId", "Event", "GenerationRecord", "Log", "Output", "Settings", "TailraceError"]
