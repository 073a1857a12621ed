"""The search for canaries finds each of them, in either format of the log, and nothing in what processes log."""

import json

import pytest

from system import canaries
from system.checker import Plan

CLEAN = """\
2026-11-22T14:20:05.123Z INFO worker[42] gen_yzm3t4phek6r4zwhvvqtri6evs completed  demo  383 tokens  9.7 s  first 0.08 s
2026-11-22T14:20:05.123Z INFO frontend[42] GET /v1/generations/gen_yzm3t4phek6r4zwhvvqtri6evs/events 200
2026-11-22T14:20:05.123Z WARNING worker[42] Redis at redis://127.0.0.1:6379/0 does not respond: connection refused.
"""
SECRETS = ["sk-upstream-secret", "anna-key-1"]


def test_clean_log_has_no_leak() -> None:
    assert canaries.leaks({"worker.log": CLEAN}, SECRETS) == []


@pytest.mark.parametrize(
    "secret", [canaries.PROMPT, canaries.KEY, canaries.TICKET, *SECRETS, "g12:7@1795237242123456", "xxxg0:0@1795237242"]
)
@pytest.mark.parametrize("encode", [str, lambda text: json.dumps({"message": text, "event": "log"})])
def test_leak_is_found_with_its_line(secret: str, encode: object) -> None:
    assert callable(encode)
    line = encode(f"INFO GET /events?ticket={secret} 200")
    (found,) = canaries.leaks({"worker.log": CLEAN, "frontend.log": f"{CLEAN}{line}\nmore\n"}, SECRETS)
    assert found.startswith("frontend.log: ")
    assert found.endswith(line)


def test_secrets_of_a_stack_are_those_of_its_settings() -> None:
    environment = {
        "OPENAI_API_KEY": "sk-upstream-secret",
        "TAILRACE_API_KEYS": "anna:anna-key-1,ben:ben-key-22;scopes=read",
        "TAILRACE_PORT": "8080",
    }
    assert canaries.secrets_of(environment) == ["sk-upstream-secret", "anna-key-1", "ben-key-22"]


def test_prompt_of_every_plan_has_a_canary() -> None:
    assert canaries.PROMPT in str(Plan("g0", 1).body()["messages"])
