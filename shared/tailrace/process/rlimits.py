"""How many files a process may have open: each connection is one.

The usual soft limit is 1,024, for the sake of programs that use `select`; a server raises it to the hard one. What is
accepted beyond it is closed without a word.
"""

import logging
import resource

SPARE = 200
"""Beside the connections that are counted: Redis, the upstream, health checks, calls that are no streams."""

logger = logging.getLogger(__name__)


def raise_open_file_limit(connections: int) -> None:
    """Raise the soft limit to the hard one; warn where that is too few for so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (ValueError, OSError):  # macOS has a lower one than it says
        pass
    if soft != resource.RLIM_INFINITY and soft < connections + SPARE:
        logger.warning(
            "this process may have %d files open and is set to serve %d connections: beyond that limit they are closed "
            "unanswered; raise it (ulimit -Hn), or lower the setting",
            soft, connections,
        )  # fmt: skip
