"""The log of a generation: its promises (`log`), its stored form (`codec`, `state`) and its fold (`output`)."""

from tailrace.log.log import AppendBatch, AppendResult, LeaseGrant, Log, Outcome, Page, Position

__all__ = ["AppendBatch", "AppendResult", "LeaseGrant", "Log", "Outcome", "Page", "Position"]
