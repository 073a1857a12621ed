"""`scripts/fuzz` at its short size, and what it covers."""

import random

import pytest

from system.fuzz import TARGETS
from system.fuzz_http import DOCUMENTED
from system.fuzz_scripts import SCRIPT_NAMES, answers
from tailrace import scripts


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", TARGETS)
async def test_fuzz_has_no_finding(name: str) -> None:
    fuzz, short, _ = TARGETS[name]
    seed = random.randrange(2**32)
    findings = await fuzz(seed, short)
    assert not findings, f"scripts/fuzz --target {name} --size short --seed {seed}\n" + "\n".join(findings[:10])


def test_fuzz_calls_every_script() -> None:
    assert {name.upper() for name in SCRIPT_NAMES} == {
        name for name, value in vars(scripts).items() if isinstance(value, scripts.Script)
    }


def test_fuzz_knows_the_documented_answers() -> None:
    assert answers("acquire") == {"OK", "HELD", "TERMINATING", "DONE", "UNKNOWN", "GONE"}
    assert answers("append") == {"GONE", "UNKNOWN", "FENCED", "DONE", "BEHIND", "OK"}
    assert answers("read_done") == frozenset()
    assert {(404, "not_found"), (400, None), (503, "unavailable"), (504, "deadline_exceeded")} <= DOCUMENTED
