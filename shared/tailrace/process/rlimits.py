"""The limit of open files. Each connection is an open file.

The usual soft limit is 1,024, for programs that use `select`. A server raises it to the hard limit, because connections
accepted beyond the limit are closed without a response.
"""

import logging
import resource
import sys

SPARE = 200
"""Files beyond the counted connections: Redis, the upstream, health checks, requests that are not streams."""

logger = logging.getLogger(__name__)


def raise_open_file_limit(connections: int) -> None:
    """Raise the soft limit to the hard limit. Log a warning if that is too low for the given number of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (ValueError, OSError):  # macOS enforces a lower limit than it reports
        pass
    if soft != resource.RLIM_INFINITY and soft < connections + SPARE:
        logger.warning(
            "the limit of open files is %d, too low for the configured %d connections: those beyond it are closed "
            "without a response; raise the limit (ulimit -Hn) or lower the setting",
            soft, connections,
        )  # fmt: skip


def available_files() -> int:
    """The soft limit without the `SPARE` files: how many connections a server may accept."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else max(1, soft - SPARE)
