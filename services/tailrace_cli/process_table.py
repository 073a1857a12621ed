"""The file in which `tailrace dev` writes its processes, for its page (`/dev`) and for a second `tailrace dev`."""

import json
import os
from pathlib import Path

FILE = "processes.json"


class ProcessTable:
    """A row for each process: `{"worker": {"pid": 4711, "restarts": 0}, …}`. Only its user can read the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, int]] = {}

    def record(self, name: str, pid: int) -> None:
        """Note a process that has started, and write the file. A name that is known already has been restarted."""
        known = self._rows.get(name)
        self._rows[name] = {"pid": pid, "restarts": known["restarts"] + 1 if known else 0}
        self._write()

    def pid_of(self, name: str) -> int | None:
        """The newest process of this name."""
        row = self._rows.get(name)
        return row["pid"] if row else None

    def remove(self) -> None:
        """Delete the file: the processes are gone."""
        self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Replace the file as a whole, so that a reader never sees a part of it."""
        written = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(written, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode=0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._rows, file)
        written.replace(self.path)
