"""Put on PYTHONPATH of the processes under test: SIGUSR2 has them write down which asyncio tasks they have.

Tasks cannot be counted from outside, and the product needs no route that tells them.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any


def _tell(*_: Any) -> None:
    tasks = [task for task in list(asyncio.tasks._all_tasks) if not task.done()]  # type: ignore[attr-defined]
    names = [f"{task.get_name().split(' ')[0]} {task.get_coro().__qualname__}" for task in tasks]
    told = Path(os.environ["CHAOS_PROBE"]) / f"{os.getpid()}.tasks"
    written = told.with_suffix(".new")
    written.write_text("\n".join(sorted(names)))
    written.rename(told)


if "CHAOS_PROBE" in os.environ:
    signal.signal(signal.SIGUSR2, _tell)
