"""A kill that a user has asked for, on the page of `tailrace dev`: no fault of what the process ran.

The frontend notes the process before it kills it, and `tailrace dev` looks for the note when the process has exited.
The note is a file beside the process table, with the pid. A later note replaces it.
"""

import os
from pathlib import Path

FILE = "requested-kill"


def note(table: Path, pid: int) -> None:
    """Note that the process is about to be killed. `table`: the path of the process table.

    Raises:
        OSError
    """
    path = table.with_name(FILE)
    written = path.with_name(f".{FILE}.{os.getpid()}")
    written.write_text(str(pid))
    written.replace(path)


def take(table: Path, pid: int) -> bool:
    """Whether the process, which has exited, was noted. The note is deleted."""
    path = table.with_name(FILE)
    try:
        is_noted = path.read_text() == str(pid)
    except OSError:
        return False
    if is_noted:
        path.unlink(missing_ok=True)
    return is_noted
