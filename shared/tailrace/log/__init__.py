"""The log of a generation: its promises (`log`), reading (`reading`), stored form (`codec`, `state`) and fold
(`output`)."""

from tailrace.log.log import Log
from tailrace.log.reading import Page, Position, ReadableLog
from tailrace.log.results import AppendBatch, AppendResult, Creation, LeaseGrant, Outcome

__all__ = ["AppendBatch", "AppendResult", "Creation", "LeaseGrant", "Log", "Outcome", "Page", "Position", "ReadableLog"]
