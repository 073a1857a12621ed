"""The log line at the end of a generation: what happened, and why.

    gen_… completed  demo  383 tokens  9.7 s  first 0.08 s
    gen_… failed  demo  model_not_found: The model `x` does not exist.  (attempt 1, 0.4 s)
    gen_… completed  demo  via backup  383 tokens  9.7 s  first 0.08 s             where there is a `tailrace.toml`

Upstreams write part of such a line, so it is cut, and has no control characters: a terminal would obey them, and a line
feed would begin another entry of the log.
"""

import logging
import re

import msgspec

from tailrace.events import Done, Failure
from tailrace.lifecycle.steps import log_step
from tailrace.log.state import GenerationState

MAX_CHARACTERS = 500
"""Of an error's message or detail."""

UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


def log_end(logger: logging.Logger, state: GenerationState, done: Done, detail: str = "") -> None:
    """Log the end that was written: a warning where the generation has failed or its answer was cut.

    `detail`: more about the error, for operators alone.
    """
    level = logging.INFO if done.error is None or done.status == "cancelled" else logging.WARNING
    fields = {"status": done.status, "timings": msgspec.to_builtins(done.timings), "output_tokens": done.output_tokens}
    if done.error:
        fields["error"] = done.error.code
    if done.upstream.name:
        fields["upstream"] = done.upstream.name
    log_step(logger, "ended", state, "%s %s", end_line(state, done, detail), level=level, **fields)


def end_line(state: GenerationState, done: Done, detail: str = "") -> str:
    """The line without the generation's id."""
    total = _seconds(done.timings.total)
    parts = [done.status, printable(state.record.model)]
    if done.upstream.name:
        parts.append(f"via {done.upstream.name}")
    if done.error is not None:
        return "  ".join([*parts, _reason(done.error, detail), f"(attempt {state.attempt}, {total})"])
    parts += [_tokens(done), total]
    if done.timings.first_token is not None:
        parts.append(f"first {done.timings.first_token:.2f} s")
    if state.attempt > 1:
        parts.append(f"(attempt {state.attempt})")
    return "  ".join(filter(None, parts))


def printable(text: str) -> str:
    """The text on one line, cut to its limit."""
    line = UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= MAX_CHARACTERS else f"{line[: MAX_CHARACTERS - 1]}…"


def _reason(error: Failure, detail: str) -> str:
    shown = f" [{printable(detail)}]" if detail else ""
    return f"{printable(error.code)}: {printable(error.message)}{shown}"


def _tokens(done: Done) -> str:
    """The output's tokens; `~` where they are estimated."""
    if done.output_tokens is None:
        return ""
    return f"{'~' if (done.usage or {}).get('estimated') else ''}{done.output_tokens} tokens"


def _seconds(seconds: float | None) -> str:
    return "? s" if seconds is None else f"{seconds:.1f} s"
