"""The proof that the suite bites: without any one of its guards the product must fail a scenario.

Each guard is taken out of a copy of the sources, and the scenario that stands for it is played on that copy. A mutant
that survives says that nobody would notice if the guard were lost.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCES = ("shared", "services")


class Mutant(NamedTuple):
    """A guard: where it stands, its text, what is there without it, and the scenario that must notice."""

    path: str
    guard: str
    without: str
    scenario: str


MUTANTS: dict[str, Mutant] = {
    "fence": Mutant(
        "shared/tailrace/lua/append.lua",
        "if attempt < tonumber(known[1]) then return {'FENCED'} end\n", "",
        "zombies",
    ),
    "behind": Mutant(
        "shared/tailrace/lua/append.lua",
        "if after_n > top then return {'BEHIND', top} end\n", "",
        "redis-kills",
    ),
    "dense numbers, live": Mutant(
        "services/tailrace_frontend/hub.py",
        "        if not entries[0].follows(cursor):\n            return None\n", "",
        "slow-readers",
    ),
    "dense numbers, catching up": Mutant(
        "services/tailrace_frontend/reader.py",
        "        if entries and not entries[0].follows(self._cursor):\n", "        if False:\n",
        "rolled-back-orphans",
    ),
    "token of the run": Mutant(
        "services/tailrace_worker/generation.py",
        'token = f"{dispatch}/{new_token()}"', "token = dispatch",
        "same-dispatch",
    ),
    "hold-off": Mutant(
        "shared/tailrace/sweeper.py",
        "        return now < self._hold_until\n", "        return False\n",
        "rolled-back-end",
    ),
    "suspects run one at a time": Mutant(
        "services/tailrace_worker/worker.py",
        "if dispatch.startswith(SUSPECT) else", "if not dispatch else",
        "poison",
    ),
    "an end may exceed the memory": Mutant(
        "shared/tailrace/lua/finish.lua",
        "#!lua flags=allow-oom\n", "#!lua\n",
        "out-of-memory",
    ),
}  # fmt: skip


@contextmanager
def sources_without(mutant: Mutant) -> Iterator[list[Path]]:
    """The roots of a copy of the sources in which the guard is missing."""
    with tempfile.TemporaryDirectory(prefix="tailrace-mutant-") as folder:
        for source in SOURCES:
            shutil.copytree(ROOT / source, Path(folder) / source, ignore=shutil.ignore_patterns("__pycache__"))
        patched = Path(folder) / mutant.path
        text = patched.read_text()
        assert mutant.guard in text, f"{mutant.path} has no {mutant.guard!r} any more"
        patched.write_text(text.replace(mutant.guard, mutant.without, 1))
        yield [Path(folder) / source for source in SOURCES]
