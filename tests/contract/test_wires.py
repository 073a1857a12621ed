"""Wires are pure: whoever reads, from wherever, on any node, is told the same bytes.

The cases are logs made by hand for every turn an answer can take, and the logs of every upstream's stream.
"""

from itertools import pairwise
from pathlib import Path

import pytest

from support.logs import REQUEST, caught_up, stored
from support.told import CASES, Case, said_on
from tailrace.log.output import Output
from tailrace.wire import WIRES

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts" / "wire"


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("name", WIRES)
def test_every_cut_tells_the_same_bytes(case: Case, name: str) -> None:
    wire = WIRES[name]
    told = [wire.bind(case.record, REQUEST)(entry) for entry in case.entries]
    for cut in range(len(case.entries) + 1):
        rest = b"".join(wire.bind(case.record, REQUEST)(entry) for entry in stored(case.entries[cut:]))
        assert b"".join(told[:cut]) + rest == b"".join(told)


@pytest.mark.parametrize("name", [name for name in WIRES if WIRES[name].merges])
def test_a_merged_catch_up_says_the_same(case: Case, name: str) -> None:
    full = said_on(WIRES[name], case.record, case.entries)
    for cut in range(len(case.entries) + 1):
        assert said_on(WIRES[name], case.record, case.entries[:cut] + caught_up(case.entries[cut:])) == full


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("log", ["text", "calls", "reasoning", "failed", "cancelled", "restarted", "annotations"])
def test_transcript(name: str, log: str) -> None:
    case = Case(f"{log}, asking")
    told = b"".join(WIRES[name].bind(case.record, REQUEST)(entry) for entry in case.entries)
    assert told == (TRANSCRIPTS / name / log).read_bytes()


def test_logs_are_dense_and_end_in_their_own_fold(case: Case) -> None:
    assert case.entries[0].id.seq == case.entries[0].seq_span - 1
    assert all(after.is_contiguous_after(before.id) for before, after in pairwise(case.entries))
    fold = Output(case.entries[:-1], logprobs=case.record.logprobs)
    assert fold.build_done(case.done.status, case.done.at).output == case.done.output
