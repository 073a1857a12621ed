"""Text for a terminal.

A terminal obeys control characters, and the text of a model or an upstream may have any: they could retitle the window,
overwrite lines, or answer questions in the user's name. On a terminal they are therefore shown as escapes, with the
characters that reverse the direction of text. A file or a pipe gets the bytes as they are.
"""

import os
import sys
from typing import Any, TextIO

from tailrace import jsoncodec

DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
CONTROL = (*range(0x20), *range(0x7F, 0xA0))
ESCAPES = {each: f"\\x{each:02x}" for each in CONTROL if each not in b"\t\n"} | {
    each: f"\\u{each:04x}" for each in DIRECTION
}
LINE_ESCAPES = ESCAPES | {0x0A: "\\n", 0x2028: "\\u2028", 0x2029: "\\u2029"}

RESET, BOLD, DIM, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = (
    f"\x1b[{code}m" for code in (0, 1, 2, 31, 32, 33, 34, 35, 36)
)


def neutralized(data: bytes) -> bytes:
    """The text with its control characters as escapes; tabs and line feeds stay."""
    return data.decode(errors="replace").translate(ESCAPES).encode()


def one_line(text: str) -> str:
    """The text with its control characters and line ends as escapes."""
    return text.translate(LINE_ESCAPES)


def has_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours; none where NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str) -> str:
    """The text in a colour, or dimmed."""
    return f"{colour}{text}{RESET}"


def print_json(value: Any) -> None:
    """One line of JSON on stdout, at once."""
    data = jsoncodec.dumps(jsoncodec.replace_lone_surrogates(value)) + b"\n"
    sys.stdout.buffer.write(neutralized(data) if sys.stdout.isatty() else data)
    sys.stdout.buffer.flush()
