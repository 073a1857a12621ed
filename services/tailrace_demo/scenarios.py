"""Named scenarios: `model: "demo:stall"` plays what upstreams do, faults and odd answers alike.

    demo:NAME             the scenario
    demo:NAME-once        the first call of a request has it, the repeated call is answered; for faults only
    demo:NAME@RATE        at this many tokens a second; the request's `tokens_per_second` does the same (40)

A call is repeated if it has the same model and messages as one before it. Scenarios are not in `/v1/models`: they are
for tests, and a list of models is what a person chooses from. `tailrace demo-model --list` prints them.

`end` is what Tailrace makes of a scenario with its default settings (status, code of the error); a test plays each to a
real worker.
"""

import difflib
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tailrace_demo import plays
from tailrace_demo.answers import TOKENS_PER_SECOND, ChatRequest, answer
from tailrace_demo.plays import Call, Play
from tailrace_demo.script import Comment, Eof, Hang, ResetConnection, Step

PREFIX = "demo:"
ONCE = "-once"
MAX_REQUESTS = 10_000
CLOSEST = 3


class UnknownScenario(Exception):
    """There is no such scenario; the message names similar ones."""


class Scenario(NamedTuple):
    """A row. `happens`: what the upstream does; `tailrace`: what Tailrace does about it; `end`: of the generation.
    `play`: the steps for one call. `is_fault`: whether there is a `-once` of it."""

    happens: str
    tailrace: str
    end: str
    play: Play
    is_fault: bool = True


RESTARTS = "starts over (`restarted`), in up to `TAILRACE_MAX_ATTEMPTS` attempts"
RETRIES = "calls again, up to `TAILRACE_UPSTREAM_RETRIES` times"
AT_ONCE = "fails at once, without a second call"

SCENARIOS: dict[str, Scenario] = {
    # answers
    "long": Scenario("90 numbered paragraphs, some 4,000 tokens", "stores each", "completed", plays.long, False),
    "fast": Scenario("the same without pauses", "merges what Redis has not taken yet", "completed", plays.fast, False),
    "slow": Scenario("one token a second", "waits: each token is content", "completed", plays.slow, False),
    "reasoning": Scenario("reasoning, then text", "an item for each", "completed", plays.reasoning, False),
    "tools": Scenario("two parallel calls in fragments", "an item for each call", "completed", plays.tools, False),
    "refusal": Scenario("a refusal instead of a text", "a refusal item", "completed", plays.refusal, False),
    "length": Scenario(
        "stops at its limit of tokens", "ends it as incomplete", "incomplete",
        lambda call: call.ended(call.some(), "length"), False,
    ),
    "content-filter": Scenario(
        "its filter stops the answer", "ends it as incomplete", "incomplete",
        lambda call: call.ended(call.some(), "content_filter"), False,
    ),
    "empty": Scenario(
        "a finish reason and no text", "an empty answer", "completed",
        lambda call: call.ended([plays.opening()]), False,
    ),
    "no-usage": Scenario("sends no usage", "counts it, marked `estimated`", "completed", plays.no_usage, False),
    "json": Scenario("a JSON object instead of a stream", "takes it as the answer", "completed", plays.json, False),
    "json-mode": Scenario(
        "streams a JSON object, as in JSON mode", "its value so far is at `?view=json`", "completed",
        plays.json_mode, False,
    ),
    "json-misfit": Scenario(
        "streams JSON that fits no schema of an object", "reports it in `done.format`, where the request has a schema",
        "completed", plays.json_misfit, False,
    ),
    "content-type": Scenario(
        "a stream that is named text/plain", "reads it: the body decides", "completed", plays.content_type, False
    ),
    "malformed": Scenario(
        "payloads that are no chunks among good ones", "skips and counts them", "completed", plays.malformed, False
    ),
    # silence
    "stall": Scenario(
        "sends nothing after 40 tokens", f"after `TAILRACE_UPSTREAM_IDLE_TIMEOUT_S` {RESTARTS}",
        "failed attempts_exhausted", lambda call: [*call.some(), Hang()],
    ),
    "stall-first": Scenario(
        "accepts the request and sends nothing", "fails after `TAILRACE_UPSTREAM_FIRST_TOKEN_TIMEOUT_S`",
        "failed upstream_timeout", lambda _: [Hang()],
    ),
    "pings": Scenario(
        "only comments after 40 tokens", f"as for `stall`: comments are no content; {RESTARTS}",
        "failed attempts_exhausted", plays.pings,
    ),
    "pings-first": Scenario(
        "only comments", "as for `stall-first`: comments are no content", "failed upstream_timeout", plays.pings_first,
    ),
    "byte-by-byte": Scenario(
        "one byte a second after 40 tokens", f"as for `stall`: no event is whole; {RESTARTS}",
        "failed attempts_exhausted", plays.byte_by_byte,
    ),
    "byte-by-byte-first": Scenario(
        "one byte a second, from the first one on", "as for `stall-first`: no event is whole",
        "failed upstream_timeout", plays.byte_by_byte_first,
    ),
    # ends
    "cut": Scenario(
        "its connection breaks after 40 tokens", RESTARTS, "failed attempts_exhausted",
        lambda call: [*call.some(), ResetConnection()],
    ),
    "cut-first": Scenario(
        "its connection breaks before the first token", RETRIES, "failed upstream_unreachable",
        lambda _: [Comment("ping"), ResetConnection()],
    ),
    "eof": Scenario(
        "closes the stream after 40 tokens, without a finish reason", RESTARTS, "failed attempts_exhausted",
        lambda call: [*call.some(), Eof()],
    ),
    "eof-first": Scenario(
        "closes the stream before the first token", RETRIES, "failed upstream_empty", lambda _: [plays.opening(), Eof()]
    ),
    # errors
    "429": Scenario(
        "refuses with 429 and `retry-after: 1`", f"waits as long, and {RETRIES}", "failed upstream_rate_limited",
        plays.status(429, "Rate limit reached for the demo model.", "requests", "rate_limit_exceeded", retry_after="1"),
    ),
    "429-ms": Scenario(
        "refuses with 429 and `retry-after-ms: 300`", f"waits as long, and {RETRIES}", "failed upstream_rate_limited",
        plays.status(429, "Rate limit reached for the demo model.", "requests", "rate_limit_exceeded",
                     retry_after_ms="300"),
    ),
    "408": Scenario(
        "answers 408", f"waits 0 to 8 s at random, and {RETRIES}", "failed upstream_timeout",
        plays.status(408, "The demo model has waited too long.", "timeout"),
    ),
    "500": Scenario(
        "answers 500", f"waits 0 to 8 s at random, and {RETRIES}", "failed upstream_error",
        plays.status(500, "The demo model had an error.", "server_error"),
    ),
    "503": Scenario(
        "answers 503", "as for `500`", "failed upstream_error",
        plays.status(503, "The demo model is overloaded.", "server_error", "overloaded"),
    ),
    "400": Scenario(
        "answers 400: the prompt is too long", f"{AT_ONCE}; its code is sent on", "failed context_length_exceeded",
        plays.status(400, "The demo model's context has 7 tokens.", "invalid_request_error", "context_length_exceeded"),
    ),
    "401": Scenario(
        "answers 401 and quotes the key", f"{AT_ONCE}; the message without the key", "failed upstream_auth",
        plays.status(401, "Incorrect API key provided: sk-de***mo.", "invalid_request_error", "invalid_api_key"),
    ),
    "402": Scenario(
        "answers 402: the quota is spent", AT_ONCE, "failed insufficient_quota",
        plays.status(402, "You exceeded the quota of the demo model.", "insufficient_quota", "insufficient_quota"),
    ),
    "403": Scenario(
        "answers 403: the key may not do this", f"{AT_ONCE}; the message without the key", "failed upstream_auth",
        plays.status(403, "The key sk-de***mo may not use the demo model.", "permission_error", "permission_denied"),
    ),
    "404": Scenario(
        "answers 404: there is no such model", f"{AT_ONCE}; its code is sent on", "failed model_not_found",
        plays.status(404, "The demo model is not here.", "invalid_request_error", "model_not_found"),
    ),
    "redirect": Scenario(
        "answers 307 with another address", f"{AT_ONCE}; the address is not called", "failed upstream_unreadable",
        plays.status(307, "The demo model has moved.", "redirect", location="/v1/elsewhere"),
    ),
    "html": Scenario("answers 200 with a page of HTML", AT_ONCE, "failed upstream_unreadable", plays.html),
    "error": Scenario(
        "an error object in the stream after 40 tokens", "ends it as failed with that error; the text is kept",
        "failed overloaded", plays.error_in_the_middle,
    ),
    "error-first": Scenario(
        "an error object in the stream before the first token", RETRIES, "failed overloaded",
        plays.error_at_first,
    ),
    "oversized": Scenario(
        "an event of 9 MiB after 40 tokens", f"stops reading at 8 MiB; {RESTARTS}", "failed attempts_exhausted",
        plays.oversized,
    ),
    "oversized-first": Scenario(
        "an event of 9 MiB before the first token", f"stops reading at 8 MiB; {AT_ONCE}", "failed upstream_unreadable",
        plays.oversized_first,
    ),
}  # fmt: skip


class Repeats:
    """How often each request was received before: by its model and messages, and by the `script_id` of tests."""

    def __init__(self) -> None:
        self._calls: OrderedDict[bytes, int] = OrderedDict()

    def count(self, chat: ChatRequest, script_id: str = "") -> int:
        """The number of earlier calls; counts this one."""
        key = hashlib.sha256(msgspec.json.encode([chat.model, chat.messages, script_id])).digest()
        earlier = self._calls.pop(key, 0)
        self._calls[key] = earlier + 1
        if len(self._calls) > MAX_REQUESTS:
            self._calls.popitem(last=False)
        return earlier


def is_scenario(model: str) -> bool:
    return model.startswith(PREFIX)


def play(chat: ChatRequest, earlier: int) -> Sequence[Step]:
    """The steps of a call to `demo:…`. `earlier`: the calls of the same request before it.

    Raises:
        UnknownScenario: there is none of that name, or its rate is none.
    """
    name, rate = _named(chat)
    scenario = SCENARIOS.get(name)
    if scenario:
        return scenario.play(Call(chat, rate))
    once = SCENARIOS.get(name.removesuffix(ONCE)) if name.endswith(ONCE) else None
    if once is None or not once.is_fault:
        raise UnknownScenario(_unknown(name))
    if earlier % 2:
        return answer(msgspec.structs.replace(chat, model="demo", tokens_per_second=rate))
    return once.play(Call(chat, rate))


def _named(chat: ChatRequest) -> tuple[str, float]:
    name, at, given = chat.model.removeprefix(PREFIX).partition("@")
    try:
        rate = float(given) if at else chat.tokens_per_second or TOKENS_PER_SECOND
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UnknownScenario(f"The rate of `{PREFIX}{name}@…` is tokens a second, a number above 0.")
    return name, rate


def _unknown(name: str) -> str:
    names = [*SCENARIOS, *(f"{each}{ONCE}" for each, row in SCENARIOS.items() if row.is_fault)]
    close = [f"`{PREFIX}{each}`" for each in difflib.get_close_matches(name, names, CLOSEST)]
    like = f" Is it {' or '.join(close)}?" if close else ""
    return f"The demo model has no scenario `{PREFIX}{name[:100]}`.{like} `tailrace demo-model --list` prints them all."
