"""The programs on the README's first screen, as a reader pastes them: the lines of a diff with its changes made."""

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"
URL = "http://127.0.0.1:8080"
MODEL = '"demo"'
CRASH = re.compile(r"^(?:#|//) after the crash:$", re.MULTILINE)


class Program(NamedTuple):
    """Its lines up to the crash, and those after it."""

    before: str
    after: str


def changed_program(first_line: str, url: str, model: str) -> Program:
    """The program of the diff that begins with this line, on another address and with another model."""
    diffs = re.findall(r"^```diff\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (diff,) = [each for each in diffs if each.startswith(f" {first_line}\n")]
    assert (len(re.findall(r"^\+", diff, re.MULTILINE)), URL in diff, MODEL in diff) == (3, True, True)
    program = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("-"))
    before, after = CRASH.split(program.replace(URL, url).replace(MODEL, f'"{model}"'))
    return Program(before, after)
