"""What those who run Tailrace look at: the installation now, and its generations. Nothing here knows HTTP.

All of it is read from Redis. A frontend keeps the last minutes of snapshots while somebody looks, and nothing else.
"""

from tailrace_frontend.dashboard.feed import SnapshotFeed
from tailrace_frontend.dashboard.search import Found, Query, search
from tailrace_frontend.dashboard.snapshot import SnapshotReader
from tailrace_frontend.dashboard.snapshot_stream import SnapshotStream

__all__ = ["Found", "Query", "SnapshotFeed", "SnapshotReader", "SnapshotStream", "search"]
