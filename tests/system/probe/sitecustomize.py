"""On PYTHONPATH of the processes under test: at SIGUSR2 they write the names of their asyncio tasks to a file.

Tasks cannot be counted from outside the process, and the product needs no route that lists them.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any


def _list_tasks(*_: Any) -> None:
    tasks = [task for task in list(asyncio.tasks._all_tasks) if not task.done()]  # type: ignore[attr-defined]
    names = [f"{task.get_name().split(' ')[0]} {task.get_coro().__qualname__}" for task in tasks]
    listed = Path(os.environ["CHAOS_PROBE"]) / f"{os.getpid()}.tasks"
    written = listed.with_suffix(".new")
    written.write_text("\n".join(sorted(names)))
    written.rename(listed)


if "CHAOS_PROBE" in os.environ:
    signal.signal(signal.SIGUSR2, _list_tasks)
