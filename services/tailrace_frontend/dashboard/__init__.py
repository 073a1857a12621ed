"""What those who run Tailrace look at: the installation now, its generations, and the audit. Nothing here knows HTTP.

All of it is read from Redis. A frontend keeps the last minutes of snapshots while somebody looks, and nothing else.
"""

from tailrace_frontend.dashboard.audit_stream import AuditFeed, AuditStream, entry_json
from tailrace_frontend.dashboard.diagnostic_stream import DiagnosticStream, DiagnosticStreams, Plan
from tailrace_frontend.dashboard.feed import SnapshotFeed
from tailrace_frontend.dashboard.search import Found, Query, search
from tailrace_frontend.dashboard.snapshot import SnapshotReader
from tailrace_frontend.dashboard.snapshot_stream import SnapshotStream

__all__ = [
    "AuditFeed", "AuditStream", "DiagnosticStream", "DiagnosticStreams", "Found", "Plan", "Query", "SnapshotFeed",
    "SnapshotReader", "SnapshotStream", "entry_json", "search",
]  # fmt: skip
