"""The lines with which a process reports that it runs.

The children of `tailrace dev` do not log them: its banner has all of it, and they would surround it.
"""

import logging
import os

from tailrace.settings import DEV_PROCESSES

logger = logging.getLogger("tailrace.startup")


def silence_children() -> None:
    """Log no such lines in a process that `tailrace dev` has started."""
    if DEV_PROCESSES in os.environ:
        logger.setLevel(logging.WARNING)
