"""What `ask` and `tail` show of an answer, on a terminal and in a pipe."""

import io
from typing import Any

import pytest

from support.logs import LogBuilder, record, text_opened
from tailrace.errors import Unavailable
from tailrace.events import Done, Entry, Event, Finish, Item, Reasoning, Refusal, Restarted, Started, Text
from tailrace.failures import failure
from tailrace.ids import EntryId
from tailrace_cli.answer_printer import AnswerPrinter

RESTARTED = Restarted(2, "worker_lost", 1.0)


class Printed:
    """An answer that was printed: what stands on stdout and on stderr."""

    def __init__(self, *events: Event, is_terminal: bool = True, colours: bool = False) -> None:
        self._output, self._notes = io.BytesIO(), io.StringIO()
        self.printer = AnswerPrinter(self._output, self._notes, is_terminal=is_terminal, has_colours=colours)
        for n, event in enumerate(events):
            self.printer.print(Entry(EntryId(1, n), event))

    @property
    def output(self) -> str:
        return self._output.getvalue().decode()

    @property
    def notes(self) -> str:
        return self._notes.getvalue()


def done(status: Any = "completed", **fields: Any) -> Done:
    return Done(status, 1.0, **fields)


def test_text_ends_with_a_line_end_on_a_terminal_only() -> None:
    events = Started(1, 1.0), text_opened(), Text(0, "One"), Text(0, " two"), done()
    assert Printed(*events).output == "One two\n"
    assert Printed(*events, is_terminal=False).output == "One two"
    assert Printed(Text(0, "One\n"), done()).output == "One\n"
    assert Printed(*events).notes == ""
    assert Printed(*events).printer.status == 0


def test_only_the_first_choice_is_shown() -> None:
    assert Printed(Text(0, "a"), Text(1, "b", 1), Refusal(2, "c"), Reasoning(3, "d", 1), done()).output == "ac\n"


def test_reasoning_is_dimmed_and_on_a_terminal_only() -> None:
    events = Reasoning(0, "hm\n"), Reasoning(0, "so"), Text(1, "Yes"), done()
    assert Printed(*events).output == "hm\nso\n\nYes\n"
    assert Printed(*events, colours=True).output == "\x1b[2mhm\n\x1b[0m\x1b[2mso\x1b[0m\n\nYes\n"
    assert Printed(*events, is_terminal=False).output == "Yes"


def test_restart_is_noted_and_the_new_text_begins_on_a_line_of_its_own() -> None:
    printed = Printed(Text(0, "One tw"), RESTARTED, Text(1, "One two"), done())
    assert printed.output == "One tw\nOne two\n"
    assert printed.notes.startswith("The answer starts over: attempt 2. The worker's lease expired")


def test_restart_ends_a_text_that_is_in_a_pipe() -> None:
    with pytest.raises(Unavailable, match="begun anew"):
        Printed(Text(0, "One tw"), RESTARTED, is_terminal=False)
    assert Printed(RESTARTED, Text(1, "One two"), done(), is_terminal=False).output == "One two"


@pytest.mark.parametrize(
    ("end", "note", "status"),
    [
        (done("failed", error=failure("upstream_refused", "no \x1b[2J such\nmodel")),
         "failed: upstream_refused: no \\x1b[2J such\\nmodel\n", 1),
        (done("cancelled"), "cancelled\n", 1),
        (done("incomplete", finish=[Finish(0, "length")]), "incomplete: length\n", 0),
        (done("incomplete", error=failure("log_limit", "too long")), "incomplete: log_limit: too long\n", 0),
        (done(output=[Item(0, "call", name="weather", arguments='{"city": "Bern"}')]),
         'calls weather({"city": "Bern"})\n', 0),
    ],
)  # fmt: skip
def test_end_other_than_a_text_is_noted(end: Done, note: str, status: int) -> None:
    printed = Printed(Text(0, "One"), end)
    assert (printed.notes, printed.printer.status, printed.output) == (note, status, "One\n")


def test_control_characters_of_a_model_do_not_reach_a_terminal() -> None:
    events = Text(0, "a\x1b[2Jb"), done()
    assert Printed(*events).output == "a\\x1b[2Jb\n"
    assert Printed(*events, is_terminal=False).output == "a\x1b[2Jb"


def test_answer_without_an_end_is_not_whole() -> None:
    assert Printed(Text(0, "One")).printer.status == 1


def test_every_kind_of_event_is_accepted() -> None:
    builder = LogBuilder(record())
    printed = Printed(*(entry.event for entry in builder.entries))
    assert printed.output == ""
