"""Canaries: texts that go through the product in every scenario, and that no process may log.

Each request has a key and each reader a ticket, which open mode ignores, and each prompt a word of its own. The tokens
of the scripted upstream are unique anyway (`checker`), so that any of them in a log is found by its form.
"""

import re
from collections.abc import Iterable, Mapping

PROMPT = "canary-prompt-4b1d"
KEY = "canary-key-93aa"
TICKET = "canary-ticket-e07c"
SETTINGS = ("OPENAI_API_KEY", "TAILRACE_API_KEYS", "TAILRACE_TICKET_SECRET")
"""Variables with secrets."""

ANSWER = re.compile(r"[a-z]+[0-9]+:[0-9]+@[0-9]{10,}")
EXCERPT = 300


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The secrets of the settings: of an API key `name:key;options`, the key."""
    values = (environment.get(name, "") for name in SETTINGS)
    entries = [entry.partition(";")[0].rpartition(":")[2] for value in values for entry in value.split(",")]
    return [entry for entry in entries if entry]


def leaks(logs: Mapping[str, str], secrets: Iterable[str]) -> list[str]:
    """The first line with a canary in each log, behind the log's name."""
    words = [PROMPT, KEY, TICKET, *secrets]
    pattern = re.compile("|".join([*map(re.escape, words), ANSWER.pattern]))
    found = []
    for name, text in logs.items():
        if match := pattern.search(text):
            begin = text.rfind("\n", 0, match.start()) + 1
            found.append(f"{name}: {match[0]}: {text[begin : begin + EXCERPT].splitlines()[0]}")
    return found
