"""An answer as text, as it grows: for `ask` and `tail`.

The text goes to stdout; what happens to it (a restart, a failure) to stderr. A terminal also gets the reasoning,
dimmed.
"""

import sys
from typing import BinaryIO, TextIO

from tailrace.errors import Unavailable
from tailrace.events import Done, Entry, Event, Reasoning, Refusal, Restarted, Text
from tailrace.failures import RESTART_REASONS
from tailrace_cli.terminal import DIM, RESET, YELLOW, coloured, has_colours, neutralized, one_line


class AnswerPrinter:
    """Prints the first choice of one generation. `done` is its end, once it has been printed."""

    def __init__(self, output: BinaryIO, notes: TextIO, *, is_terminal: bool, has_colours: bool) -> None:
        self._output = output
        self._notes = notes
        self._is_terminal = is_terminal
        self._dim, self._reset = (DIM, RESET) if has_colours else ("", "")
        self._shown: type[Event] | None = None
        self._last = b"\n"
        self.done: Done | None = None

    @classmethod
    def on_stdout(cls) -> "AnswerPrinter":
        """Text on stdout, notes on stderr."""
        terminal = sys.stdout.isatty()
        return cls(sys.stdout.buffer, sys.stderr, is_terminal=terminal, has_colours=has_colours(sys.stdout))

    @property
    def status(self) -> int:
        """The exit status: 0 where the answer is whole, or as long as the upstream made it."""
        return 0 if self.done is not None and self.done.status in ("completed", "incomplete") else 1

    def print(self, entry: Entry) -> None:
        """
        Raises:
            Unavailable: the answer begins anew, and what has been printed into a file or a pipe stays there.
        """
        match entry.event:
            case Text(choice=0) | Refusal(choice=0) as event:
                self._show(event, event.text)
            case Reasoning(choice=0) as event if self._is_terminal:
                self._show(event, event.text)
            case Restarted() as event:
                self._restart(event)
            case Done() as event:
                self._end(event)

    def note(self, text: str) -> None:
        """A line on stderr, below what is shown of the answer."""
        self._end_line()
        text = one_line(text)
        self._notes.write((coloured(text, YELLOW) if has_colours(self._notes) else text) + "\n")
        self._notes.flush()

    def _show(self, event: Event, text: str) -> None:
        kind = Reasoning if isinstance(event, Reasoning) else Text
        data = text.encode(errors="replace")
        if self._is_terminal:
            if self._shown not in (None, kind):
                self._end_line()
                self._write(b"\n")
            data = neutralized(data)
        if kind is Reasoning:
            data = self._dim.encode() + data + self._reset.encode()
        self._shown = kind
        self._write(data)
        if text:
            self._last = text[-1].encode(errors="replace")

    def _restart(self, event: Restarted) -> None:
        if self._shown and not self._is_terminal:
            raise Unavailable("the answer has begun anew; its text so far is void. `tailrace tail` prints it again")
        reason = RESTART_REASONS.get(event.reason, "")  # type: ignore[call-overload]
        self.note(f"The answer starts over: attempt {event.attempt}. {reason}".strip())
        self._shown = None

    def _end(self, done: Done) -> None:
        self.done = done
        for call in (item for item in done.output if item.type == "call"):
            self.note(f"calls {call.name}({call.arguments})")
        if done.error is not None:
            self.note(f"{done.status}: {done.error.code}: {done.error.message}")
        elif done.status != "completed":
            reasons = {finish.finish_reason for finish in done.finish if finish.finish_reason}
            self.note(": ".join([done.status, *sorted(reasons)]))
        self._end_line()

    def _end_line(self) -> None:
        if self._is_terminal and self._last != b"\n":
            self._write(b"\n")

    def _write(self, data: bytes) -> None:
        self._output.write(data)
        self._output.flush()
        self._last = data[-1:] or self._last
