import re

import pytest

from tailrace_frontend.streaming import cursor_state
from tailrace_frontend.streaming.cursor_state import FINAL, TRANSITIONS, State


def test_every_state_has_its_transitions_and_the_final_ones_have_none() -> None:
    assert TRANSITIONS.keys() == set(State)
    assert {state for state, successors in TRANSITIONS.items() if not successors} == FINAL


def test_every_state_is_reached() -> None:
    reached = {State.SEEKING}
    while (further := reached.union(*(TRANSITIONS[state] for state in reached))) != reached:
        reached = further
    assert reached == set(State)


@pytest.mark.parametrize("state", State)
def test_drawn_table_has_the_same_transitions(state: State) -> None:
    """A row begins with the state's name; its last column names the states that are not final."""
    assert cursor_state.__doc__
    table = cursor_state.__doc__.split("\n\n`TRANSITIONS`")[0]
    (row,) = re.findall(rf"^    {state.name} (.*?)(?=^    [A-Z]|\Z)", table, re.MULTILINE | re.DOTALL)
    drawn = {State[name] for name in re.findall(r"\b[A-Z_]{6,}\b", row)}
    assert drawn == TRANSITIONS[state] - FINAL
    assert ("(final)" in row) is (state in FINAL)
