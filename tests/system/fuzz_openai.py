"""Requests of OpenAI's routes and of the AI SDK's: strategies for Hypothesis.

`OF_RESPONSES`, `OF_CHAT` and `OF_AI_SDK` are sent among all others. `BODIES_OF_BOTH` are bodies alone, for both routes
that create, with scripts whose right answer is no 5xx: an upstream that fails before it has sent anything is one.
"""

import json
from typing import Any

from hypothesis import strategies as st

from system.fuzz_requests import (
    FIELDS,
    IDS,
    JSON,
    KEYED,
    MESSAGES,
    NUMBERS,
    OPTIONS,
    POOL,
    SCRIPTS,
    VALUES,
    Request,
    quoted,
)

# Responses: always in the background, so that none waits for its end

PART_TYPES = ["input_text", "output_text", "refusal", "input_image", "input_file", "input_audio", "other"]
ITEM_TYPES = ["message", "reasoning", "function_call", "function_call_output", "custom_tool_call",
              "custom_tool_call_output", "item_reference", "web_search_call"]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(["", "x", "msg_x", "user", "assistant", "system", "function", "custom"]), JSON)
PARTS = st.dictionaries(
    st.sampled_from(["text", "refusal", "image_url", "file_data", "detail", "x"]), TEXTS, max_size=3
)
CONTENTS = st.one_of(
    TEXTS,
    st.lists(st.tuples(PARTS, st.sampled_from(PART_TYPES)).map(lambda part: {**part[0], "type": part[1]}), max_size=3),
)
ITEMS = st.builds(
    lambda item, kind: {**item, "type": kind} if kind else item,
    st.dictionaries(
        st.sampled_from(["role", "content", "id", "call_id", "name", "arguments", "input", "output", "summary", "x"]),
        CONTENTS, max_size=5,
    ),
    st.sampled_from(["", *ITEM_TYPES]),
)  # fmt: skip
RESPONSE_FIELDS = ["instructions", "previous_response_id", "tools", "tool_choice", "text", "reasoning", "include",
                   "truncation", "store", "metadata", "stream_options", "max_output_tokens", "top_logprobs",
                   "conversation", "messages", "tailrace"]  # fmt: skip
RESPONSES = st.builds(
    lambda asked, more: {**asked, **more, "background": True},
    st.fixed_dictionaries({"model": st.sampled_from(["scripted", "demo"]), "input": st.one_of(
        st.just("Hello?"), st.lists(ITEMS, max_size=4), JSON)}, optional={"script": SCRIPTS, "stream": st.booleans()}),
    st.dictionaries(st.sampled_from(RESPONSE_FIELDS), st.one_of(JSON, st.lists(ITEMS, max_size=2)), max_size=3),
)  # fmt: skip
RESPONSE_CREATES = st.builds(
    Request, st.just("POST"), st.sampled_from(["/v1/responses", "/v1/responses", "/v1/responses/input_tokens"]), KEYED,
    RESPONSES.map(json.dumps).map(str.encode),
)  # fmt: skip
RESPONSE_IDS = st.one_of(st.integers(0, POOL - 1).map("resp_<{}>".format), IDS)
RESPONSE_PAIRS = st.tuples(
    st.sampled_from(
        ["stream", "starting_after", "include[]", "include", "include_obfuscation", "limit", "order", "after"]
    ),
    st.one_of(NUMBERS, st.sampled_from(["true", "asc", "desc", "message.output_text.logprobs"]), VALUES),
)
RESPONSE_QUERIES = st.lists(RESPONSE_PAIRS, max_size=3).map(
    lambda pairs: "?" + "&".join(f"{name}={quoted(value)}" for name, value in pairs)
)
RESPONSE_READS = st.builds(
    Request, st.just("GET"),
    st.tuples(st.just("/v1/responses/"), RESPONSE_IDS, st.sampled_from(["", "", "/input_items"]), RESPONSE_QUERIES).map(
        "".join
    ),
    KEYED,
)  # fmt: skip
RESPONSE_ENDS = st.one_of(
    st.builds(Request, st.just("POST"), RESPONSE_IDS.map("/v1/responses/{}/cancel".format), KEYED),
    st.builds(Request, st.just("DELETE"), RESPONSE_IDS.map("/v1/responses/{}".format), KEYED),
)
OF_RESPONSES = st.one_of(RESPONSE_CREATES, RESPONSE_CREATES, RESPONSE_READS, RESPONSE_ENDS)

# Chat completions and chats that exist already, or not

CHAT_IDS = st.one_of(st.integers(0, POOL - 1).map("chatcmpl-<{}>".format), IDS)
OF_CHAT = st.one_of(
    st.builds(
        Request, st.just("GET"),
        st.tuples(st.just("/v1/chat/completions/"), CHAT_IDS, RESPONSE_QUERIES).map("".join), KEYED,
    ),
    st.builds(Request, st.just("DELETE"), CHAT_IDS.map("/v1/chat/completions/{}".format), KEYED),
)  # fmt: skip
UI_PARTS = st.lists(
    st.builds(
        lambda part, kind: {**part, "type": kind},
        st.dictionaries(st.sampled_from(["text", "url", "mediaType", "toolCallId", "state", "input", "output"]), TEXTS,
                        max_size=4),
        st.sampled_from(["text", "reasoning", "file", "tool-search", "dynamic-tool", "data-x", "step-start", "other"]),
    ),
    max_size=3,
)  # fmt: skip
UI_MESSAGES = st.lists(
    st.fixed_dictionaries({"role": TEXTS, "parts": st.one_of(UI_PARTS, JSON)}, optional={"id": TEXTS}), max_size=3
)
UI_CHATS = st.fixed_dictionaries(
    {"id": st.one_of(st.sampled_from(["c1", "c2"]), JSON), "messages": st.one_of(UI_MESSAGES, JSON)},
    optional={"model": st.just("scripted"), "script": SCRIPTS, "trigger": JSON, "tools": JSON, "tailrace": OPTIONS},
)
OF_AI_SDK = st.one_of(
    st.builds(Request, st.just("POST"), st.just("/api/chat"), KEYED, UI_CHATS.map(json.dumps).map(str.encode)),
    st.builds(Request, st.just("GET"), IDS.map("/api/chat/{}/stream".format), KEYED),
    st.builds(Request, st.just("POST"), st.sampled_from(["/api/chat/c1/stop", "/api/chat/%00/stop"]), KEYED),
    st.builds(Request, st.just("GET"), st.sampled_from(["/api/chat/c1/messages", "/api/chat/c2/messages"]), KEYED),
)

# Bodies of both routes that create. A client waits for its answer, so an object's upstream always ends

ENDED: list[dict[str, Any]] = [{"delta": {}, "finish_reason": "stop"}, {"done": True}]
ENDING = st.sampled_from([
    [{"tokens": {"count": 3}}, *ENDED], [{"tokens": {"count": 3}}, *ENDED], ENDED, [{"status": 400}],
    [{"status": 404}], [{"status": 422}], [{"status": 429}], "not a script", 3,
    [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}}, *ENDED],
    [{"delta": {"content": "x", "refusal": "y", "reasoning": "z"}}, {"usage": {"total_tokens": 1}}, *ENDED],
])  # fmt: skip
BROKEN = st.sampled_from([
    [{"tokens": {"count": 1}}, {"raw": "data: {\n\n"}, {"eof": True}], [{"delta": {"content": "a"}}, {"hang": True}],
    [{"tokens": {"count": 1}}, {"chunk": {"error": {"message": "No.", "code": "no"}}}, {"done": True}],
])  # fmt: skip
"""For streams: after some output."""

DECIDED = {"stream", "background", "script", "script_id", "model"}
FAST = {"tokens_per_second": 100_000}


def _asked(decided: dict[str, Any], fields: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """A request whose other fields are right, or anything."""
    names = st.sampled_from([name for name in fields if name not in DECIDED])
    more = st.dictionaries(names, st.one_of(JSON, OPTIONS, st.lists(ITEMS, max_size=2)), max_size=3)
    return more.map(lambda more: {**FAST, **_without_deadline(more), **decided})


def _without_deadline(fields: dict[str, Any]) -> dict[str, Any]:
    """A deadline of a second, on a busy machine, is a 504 that proves nothing."""
    options = fields.get("tailrace")
    if isinstance(options, dict) and type(options.get("deadline_s")) is int:
        options = {name: value for name, value in options.items() if name != "deadline_s"}
    return {**fields, "tailrace": options} if "tailrace" in fields else fields


def _requests(path: str, key: str, values: st.SearchStrategy[Any], fields: list[str]) -> st.SearchStrategy[Request]:
    """Requests on one route; `key`: the field that has the prompt."""
    prompt = {key: values, "model": st.sampled_from(["scripted", "scripted", "demo"])}
    objects = st.fixed_dictionaries({**prompt, "script": ENDING}, optional={"stream": st.sampled_from([False, None])})
    streams = st.fixed_dictionaries({**prompt, "script": st.one_of(ENDING, BROKEN), "stream": st.just(True)})
    decided = st.one_of(objects, objects, streams)
    bodies = decided.flatmap(lambda decided: _asked(decided, fields)).map(json.dumps).map(str.encode)
    return st.builds(Request, st.just("POST"), st.just(path), KEYED, bodies)


WRONG = st.one_of(
    JSON.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
    st.sampled_from([b"", b"{", b"[" * 500 + b"]" * 500, b'{"a":' * 300 + b"1" + b"}" * 300, b" " * 70_000, b"NaN"]),
    st.dictionaries(st.sampled_from([*FIELDS, *RESPONSE_FIELDS, "input", "background"]), JSON, max_size=6)
    .map(lambda fields: {**fields, **FAST, "model": "scripted", "script": ENDED})
    .map(json.dumps)
    .map(str.encode),
)
BODIES_OF_BOTH = st.lists(
    st.one_of(
        _requests("/v1/chat/completions", "messages", MESSAGES, FIELDS),
        _requests("/v1/responses", "input", st.one_of(st.just("Hello?"), st.lists(ITEMS, max_size=4), JSON),
                  RESPONSE_FIELDS),
        st.builds(Request, st.just("POST"), st.sampled_from(["/v1/chat/completions", "/v1/responses"]), KEYED, WRONG),
    ),
    min_size=1, max_size=12,
)  # fmt: skip
"""Requests of one connection, one after the other."""
