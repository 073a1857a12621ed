"""What was found on each server, in one file beside this one; a run replaces the row of its server."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

FILE = Path(__file__).parent / "results.json"


class Suite(msgspec.Struct, frozen=True):
    """Tests of one run of pytest. `failures`: their names."""

    passed: int
    skipped: int
    failures: list[str]


class Result(msgspec.Struct, frozen=True):
    """One server. `source`: where it is from. `lacking`: what `/readyz` names; then nothing else was run. `chaos`: the
    violations of each scenario, of one run of `scripts/chaos --size short`."""

    name: str
    source: str
    date: str
    lacking: list[str]
    contract: Suite | None = None
    chaos: dict[str, int] | None = None

    @property
    def is_good(self) -> bool:
        """What was run has passed."""
        has_passed = self.contract is not None and not self.contract.failures
        return not self.lacking and has_passed and not any((self.chaos or {}).values())


def load() -> list[Result]:
    return msgspec.json.decode(FILE.read_bytes(), type=list[Result]) if FILE.exists() else []


def save(found: Iterable[Result]) -> None:
    """Write these results; those of other servers stay."""
    merged = {each.name: each for each in [*load(), *found]}
    ordered = sorted(merged.values(), key=lambda each: _order(each.name))
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(ordered)) + b"\n")


def _order(name: str) -> tuple[str, list[int]]:
    kind, _, version = name.partition(" ")
    return kind, [int(part) if part.isdigit() else 0 for part in version.replace("-", ".").split(".")]
