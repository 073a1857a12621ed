"""Which run of a server a process talks to, and how old that run is.

A replica that is promoted has been up for days, and no server reports when it was promoted. So the age of a run that
began while this process watched counts from the call that noticed it, and so does the first run that it sees, if that
began with a promotion. (`master_replid` changes with each promotion, also with that of a server which was the primary
before; `master_replid2` is that of the primary before, else zeros.)
"""

import time
from collections.abc import Mapping
from typing import NamedTuple


class ServerRun(NamedTuple):
    """One run of a server as a primary.

    `run_id`: another one after each start and each promotion. `age_s`: seconds since the run began, as far as this
    process knows; never more than that. `began_ms`: the moment of which that counts, by the server's clock.
    """

    run_id: str
    age_s: float
    began_ms: int = 0


class RunWatch:
    """The runs of one server, as this process sees them."""

    def __init__(self) -> None:
        self._run_id: str | None = None
        self._began_at = 0.0
        self._began_ms = 0

    @property
    def known(self) -> ServerRun | None:
        """The run that was reported last; None before the first."""
        if self._run_id is None:
            return None
        return ServerRun(self._run_id, time.monotonic() - self._began_at, self._began_ms)

    def report(self, info: Mapping[str, str]) -> ServerRun:
        """The run that the server's INFO shows (sections `server` and `replication`). A server that does not report its
        start time counts as one that has always run."""
        run_id = f"{info.get('run_id', '')} {info.get('master_replid', '')}"
        now = time.monotonic()
        if run_id != self._run_id:
            is_old = self._run_id is None and not info.get("master_replid2", "").strip("0")
            age_s = float(info.get("uptime_in_seconds", "inf")) if is_old else 0.0
            self._began_at = now - age_s
            self._began_ms = int(max(0.0, int(info.get("server_time_usec", 0)) / 1000 - 1000 * age_s))
            self._run_id = run_id
        return ServerRun(run_id, now - self._began_at, self._began_ms)
