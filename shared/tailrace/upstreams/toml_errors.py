"""Errors in `tailrace.toml`, in words: with the line of each, and never with a value, which may be a key."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from tailrace.errors import Misconfigured
from tailrace.upstreams.toml_lines import Path, line_numbers, line_of

SETTING = "TAILRACE_CONFIG"

Problem = tuple[Path, str]
"""A place in the document, and what is wrong there."""

MAX_SHOWN = 50
"""Problems in one message."""

NAME = "a name in quotes, of 1 to 256 characters"
DOLLARS = "a number of US dollars, 0 or more"

EXPECTED: Mapping[Path, str] = {
    ("upstreams",): "one table or more, each under the line [[upstreams]]",
    ("upstreams", "*"): "a table, under the line [[upstreams]]",
    ("upstreams", "*", "name"): "up to 64 letters, digits, `_`, `.` and `-`, in quotes",
    ("upstreams", "*", "base_url"): 'an address in quotes, as in "http://127.0.0.1:8000/v1"',
    ("upstreams", "*", "api_key_env"): 'the name of a variable of the environment in quotes, as in "PRIMARY_KEY"',
    ("upstreams", "*", "dialect"): '"chat" or "responses"',
    ("upstreams", "*", "profile"): 'the name of a profile in quotes, as in "vllm"',
    ("upstreams", "*", "models"): 'a list of one name or more, as in ["llama-*"]',
    ("upstreams", "*", "models", "*"): NAME,
    ("upstreams", "*", "aliases"): 'a table of names, as in { fast = "llama-3-8b" }',
    ("upstreams", "*", "aliases", "*"): NAME,
    ("upstreams", "*", "max_concurrency"): "a whole number, 1 or more",
    ("upstreams", "*", "background"): "true or false",
    ("upstreams", "*", "prices"): 'a table of prices, as in { "llama-*" = { input = 0.1, output = 0.4 } }',
    ("upstreams", "*", "prices", "*"): "a price of a model, as in { input = 0.1, output = 0.4 }",
    ("upstreams", "*", "prices", "*", "input"): DOLLARS,
    ("upstreams", "*", "prices", "*", "output"): DOLLARS,
    ("upstreams", "*", "prices", "*", "cached"): DOLLARS,
}
"""What a value must be, by its place. `*`: an index, or a name that the operator chooses."""

CHOSEN = frozenset({"upstreams", "models", "aliases", "prices"})
"""Keys whose inner keys are indexes or names that the operator chooses."""


def misconfigured(text: str, source: str, problems: Iterable[Problem]) -> Misconfigured:
    """All problems with their lines, in the order of the lines. `source`: how the file is called."""
    problems = list(problems)
    lines = line_numbers(text, {place for place, _ in problems})
    found = sorted(((line_of(lines, place), problem) for place, problem in problems), key=itemgetter(0))
    shown = "; ".join(f"line {line}: {problem}" for line, problem in found[:MAX_SHOWN])
    more = f"; and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    return Misconfigured(f"{SETTING}: {source}: {shown}{more}")


def not_toml(text: str, source: str, error: tomllib.TOMLDecodeError) -> Misconfigured:
    """tomllib's `… (at line 3, column 5)` or `… (at end of document)` with its line in front, as in our messages."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
    if found:
        return Misconfigured(f"{SETTING}: {source}: line {found[2]}, column {found[3]}: {found[1]}")
    last = 1 + text.removesuffix("\n").count("\n")
    return Misconfigured(f"{SETTING}: {source}: line {last}: {error}")


def problems_of(errors: Sequence[Any], known_keys: Callable[[Path], Sequence[str]]) -> list[Problem]:
    """Pydantic's errors, in our words. `known_keys`: those that may stand at a place."""
    places = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
    return [
        _problem_of(error, known_keys)
        for error in errors
        if error["type"] != "too_short" or error["loc"] not in places  # a wrong entry counts as none
    ]


def _problem_of(error: Any, known_keys: Callable[[Path], Sequence[str]]) -> Problem:
    place = tuple(part for part in error["loc"] if part != "[key]")  # pydantic marks keys of mappings so
    path = shown_path(place)
    match error["type"]:
        case "extra_forbidden":
            return place, f"{path}: there is no such key; the keys here: {', '.join(known_keys(place))}"
        case "missing" if len(place) > 1:
            return place, f"{path}: it is missing"
        case "value_error":
            return place, f"{path}: {error['ctx']['error']}"
    return place, f"{path}: it must be {EXPECTED[_pattern(place)]}"


def shown_path(place: Path) -> str:
    """A place inside its upstream, for people: `prices.llama-*.input`, `models, entry 2`."""
    parts = place[2:] or place
    names = ".".join(f"{part}" or '""' for part in parts if isinstance(part, str))
    return names + "".join(f", entry {part + 1}" for part in parts if isinstance(part, int))


def _pattern(place: Path) -> Path:
    """The place as `EXPECTED` has it."""
    pattern: Path = ()
    for part in place:
        pattern = (*pattern, "*" if pattern and pattern[-1] in CHOSEN else part)
    return pattern
