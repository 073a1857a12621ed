"""Answers of Responses upstreams by name, as their events.

They follow OpenAI's reference and the servers' sources, shortened: order, additional fields, what is missing and what
is repeated. `EXACT` are those that a Responses client of Tailrace gets event by event as the upstream sent them.
"""

from collections.abc import Iterable
from typing import Any

from support.chat_chunks import tokens

Json = dict[str, Any]
OBFUSCATION = "Zr4Tn9KqLx"
USAGE: Json = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 19,
}
RESPONSE: Json = {
    "id": "resp_68af00", "object": "response", "created_at": 1_750_000_000, "model": "gpt-5-2025-08-07",
    "service_tier": "default", "reasoning": {"effort": "medium", "summary": "detailed"}, "top_p": 1.0,
    "prompt_cache_retention": "24h", "moderation": None, "background": False,
}  # fmt: skip


def event(name: str, /, **fields: Any) -> Json:
    return {"type": f"response.{name}", **fields}


def numbered(events: Iterable[Json]) -> list[Json]:
    return [{**each, "sequence_number": number} for number, each in enumerate(events)]


def answer(*items: list[Json], end: str = "completed", usage: Json | None = USAGE, **more: Any) -> list[Json]:
    """A whole answer of OpenAI's, of the events of its items."""
    events = [each for item in items for each in item]
    done = [each for each in events if each["type"] == "response.output_item.done"]
    output = [each["item"] for each in sorted(done, key=lambda each: int(each["output_index"]))]
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None, "error": None}
    ended = {**RESPONSE, "status": end, "output": output, "usage": usage, "error": None, "incomplete_details": None}
    return numbered(
        [
            event("created", response=begun),
            event("in_progress", response=begun),
            *events,
            event(end, response={**ended, **more}),
        ]
    )


def message(index: int, *parts: list[Json] | str, status: str = "completed", **fields: Any) -> list[Json]:
    """A message of texts and of parts made by `text_part`, `refusal_part`."""
    item_id = f"msg_68af{index:02}"
    place: Json = {"item_id": item_id, "output_index": index}
    events: list[Json] = []
    for number, part in enumerate(parts):
        made = text_part(part) if isinstance(part, str) else part
        events += [{**each, **place, "content_index": number} for each in made]
    content = [each["part"] for each in events if each["type"] == "response.content_part.done"]
    item: Json = {"id": item_id, "type": "message", "role": "assistant", **fields}
    return [
        event("output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []}),
        *events,
        event("output_item.done", output_index=index, item={**item, "status": status, "content": content}),
    ]


def text_part(text: str, annotations: Iterable[Json] = (), logprobs: bool = False, **fields: Any) -> list[Json]:
    begun: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    cited = list(annotations)
    known = [logprob(word) for word in tokens(text)] if logprobs else []
    whole = {**begun, "text": text, "annotations": cited, "logprobs": known, **fields}
    deltas = [
        event("output_text.delta", delta=word, logprobs=[logprob(word)] if logprobs else [], obfuscation=OBFUSCATION)
        for word in tokens(text)
    ]
    added = [event("output_text.annotation.added", annotation_index=k, annotation=each) for k, each in enumerate(cited)]
    return [
        event("content_part.added", part=begun),
        *deltas,
        *added,
        event("output_text.done", text=text, logprobs=known),
        event("content_part.done", part=whole),
    ]


def logprob(token: str) -> Json:
    same: Json = {"token": token, "bytes": list(token.encode()), "logprob": -0.25}
    return {**same, "top_logprobs": [same]}


def refusal_part(text: str) -> list[Json]:
    return [
        event("content_part.added", part={"type": "refusal", "refusal": ""}),
        *(event("refusal.delta", delta=word) for word in tokens(text)),
        event("refusal.done", refusal=text),
        event("content_part.done", part={"type": "refusal", "refusal": text}),
    ]


def reasoning(index: int, *summaries: str, **fields: Any) -> list[Json]:
    """Reasoning with its summary, as OpenAI sends it; without one, an item without parts."""
    item_id = f"rs_68af{index:02}"
    events: list[Json] = []
    for number, text in enumerate(summaries):
        place: Json = {"item_id": item_id, "output_index": index, "summary_index": number}
        events += [
            event("reasoning_summary_part.added", **place, part={"type": "summary_text", "text": ""}),
            *(event("reasoning_summary_text.delta", **place, delta=word) for word in tokens(text)),
            event("reasoning_summary_text.done", **place, text=text),
            event("reasoning_summary_part.done", **place, part={"type": "summary_text", "text": text}),
        ]
    item: Json = {"id": item_id, "type": "reasoning", **fields}
    summary = [{"type": "summary_text", "text": text} for text in summaries]
    return [
        event("output_item.added", output_index=index, item={**item, "summary": []}),
        *events,
        event("output_item.done", output_index=index, item={**item, "summary": summary}),
    ]


def reasoning_text(index: int, text: str) -> list[Json]:
    """Reasoning as the model's own text."""
    place: Json = {"item_id": f"rs_68af{index:02}", "output_index": index, "content_index": 0}
    part = {"type": "reasoning_text", "text": text}
    item: Json = {"id": place["item_id"], "type": "reasoning", "summary": []}
    return [
        event("output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []}),
        event("content_part.added", **place, part={"type": "reasoning_text", "text": ""}),
        *(event("reasoning_text.delta", **place, delta=word) for word in tokens(text)),
        event("reasoning_text.done", **place, text=text),
        event("content_part.done", **place, part=part),
        event("output_item.done", output_index=index, item={**item, "status": "completed", "content": [part]}),
    ]


def call(index: int, name: str, /, *pieces: str, **fields: Any) -> list[Json]:
    item_id, arguments = f"fc_68af{index:02}", "".join(pieces)
    place: Json = {"item_id": item_id, "output_index": index}
    item: Json = {"id": item_id, "type": "function_call", "call_id": f"call_{index}", "name": name, **fields}
    return [
        event("output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""}),
        *(event("function_call_arguments.delta", **place, delta=piece) for piece in pieces),
        event("function_call_arguments.done", **place, name=name, arguments=arguments),
        event("output_item.done", output_index=index, item={**item, "status": "completed", "arguments": arguments}),
    ]


def custom_call(index: int, name: str, *pieces: str) -> list[Json]:
    item_id, given = f"ctc_68af{index:02}", "".join(pieces)
    place: Json = {"item_id": item_id, "output_index": index}
    item: Json = {"id": item_id, "type": "custom_tool_call", "call_id": f"call_{index}", "name": name}
    return [
        event("output_item.added", output_index=index, item={**item, "status": "in_progress", "input": ""}),
        *(event("custom_tool_call_input.delta", **place, delta=piece) for piece in pieces),
        event("custom_tool_call_input.done", **place, input=given),
        event("output_item.done", output_index=index, item={**item, "status": "completed", "input": given}),
    ]


def hosted(index: int, kind: str, /, *names: str, begun: Json | None = None, **whole: Any) -> list[Json]:
    """A tool that runs at the upstream, with events of its own."""
    item_id = f"{HOSTED_PREFIXES[kind]}_68af{index:02}"
    place: Json = {"item_id": item_id, "output_index": index}
    item: Json = {"id": item_id, "type": kind}
    more: dict[str, Json] = {"code_interpreter_call_code.delta": {"delta": "print(1)"},
            "code_interpreter_call_code.done": {"code": "print(1)"},
            "image_generation_call.partial_image": {"partial_image_index": 0, "partial_image_b64": "iVBORw0K"},
            "mcp_call_arguments.delta": {"delta": "{}"}, "mcp_call_arguments.done": {"arguments": "{}"}}  # fmt: skip
    return [
        event("output_item.added", output_index=index, item={**item, "status": "in_progress", **(begun or {})}),
        *({**event(name), **place, **more.get(name, {})} for name in names),
        event("output_item.done", output_index=index, item={**item, "status": "completed", **whole}),
    ]


HOSTED_PREFIXES = {
    "web_search_call": "ws", "file_search_call": "fs", "code_interpreter_call": "ci", "image_generation_call": "ig",
    "mcp_list_tools": "mcpl", "mcp_call": "mcp", "mcp_approval_request": "mcpr", "computer_call": "cu",
}  # fmt: skip


def citation(n: int) -> Json:
    return {"type": "url_citation", "url": f"https://example.org/{n}", "title": f"Page {n}", "start_index": n,
            "end_index": n + 1}  # fmt: skip


def interleaved(*items: list[Json]) -> list[Json]:
    """One event of each item in turn."""
    length = max(map(len, items))
    return [item[k] for k in range(length) for item in items if k < len(item)]


FILE = {"type": "file_citation", "file_id": "file-1", "filename": "a.txt", "index": 3}
ENCRYPTED = "gAAAAABozKx-" + "q" * 40

EXACT: dict[str, list[Json]] = {
    "text": answer(message(0, "It rains in Bergen today.")),
    "two_parts": answer(message(0, "First this.", "Then that.")),
    "text_then_refusal": answer(message(0, "Well,", refusal_part("I can't."))),
    "refusal": answer(message(0, refusal_part("I'm sorry, I can't."))),
    "two_messages": answer(message(0, "One", "two"), message(1, "Three", phase="final_answer")),
    "phases": answer(message(0, "Let me see.", phase="commentary"), message(1, "Yes.", phase="final_answer")),
    "summary": answer(reasoning(0, "**Looking** at it", "**Deciding**"), message(1, "Nine.")),
    "encrypted": answer(reasoning(0, encrypted_content=ENCRYPTED), message(1, "Nine.")),
    "encrypted_summary": answer(reasoning(0, "Hm.", "So.", encrypted_content=ENCRYPTED), message(1, "Nine.")),
    "reasoning_text": answer(reasoning_text(0, "Nine is more than eight."), message(1, "Nine.")),
    "call": answer(call(0, "look", '{"q"', ":1}")),
    "calls": answer(reasoning(0), call(1, "look", '{"q":1}'), call(2, "open", '{"u":"/"}', namespace="web")),
    "custom_call": answer(message(0, "Let me run it."), custom_call(1, "run", "ls", " -l\n")),
    "annotations": answer(message(0, text_part("See both pages.", [citation(1), citation(2), FILE]), "And more.")),
    "logprobs": answer(message(0, text_part("It is so", logprobs=True))),
    "web_search": answer(
        hosted(0, "web_search_call", "web_search_call.in_progress", "web_search_call.searching",
               "web_search_call.completed", begun={"action": {"type": "search"}},
               action={"type": "search", "query": "fjords", "sources": [{"type": "url", "url": "https://x.org"}]}),
        message(1, text_part("Found it.", [citation(1)])),
    ),
    "hosted_tools": answer(
        hosted(0, "file_search_call", "file_search_call.in_progress", "file_search_call.searching",
               "file_search_call.completed", begun={"queries": []},
               queries=["a"], results=[{"file_id": "f", "score": 0.5, "text": "t"}]),
        hosted(1, "code_interpreter_call", "code_interpreter_call.in_progress", "code_interpreter_call_code.delta",
               "code_interpreter_call_code.done", "code_interpreter_call.interpreting",
               "code_interpreter_call.completed", begun={"code": "", "container_id": "cntr_1"},
               code="print(1)", container_id="cntr_1",
               outputs=[{"type": "logs", "logs": "1\n"}]),
        hosted(2, "image_generation_call", "image_generation_call.in_progress", "image_generation_call.generating",
               "image_generation_call.partial_image", "image_generation_call.completed", begun={"result": None},
               result="iVBORw0KGgo="),
        hosted(3, "mcp_list_tools", "mcp_list_tools.in_progress", "mcp_list_tools.completed",
               begun={"server_label": "deep", "tools": []},
               server_label="deep", tools=[{"name": "ask", "input_schema": {}}]),
        hosted(4, "mcp_call", "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done",
               "mcp_call.completed", begun={"server_label": "deep", "name": "ask", "arguments": ""},
               server_label="deep", name="ask", arguments="{}", output="yes", error=None),
        message(5, "Done."),
    ),
    "background": numbered(
        [
            event("created", response={**RESPONSE, "status": "queued", "output": []}),
            event("queued", response={**RESPONSE, "status": "queued", "output": []}),
            *(
                {name: value for name, value in each.items() if name != "sequence_number"}
                for each in answer(message(0, "Later."))[1:]
            ),
        ]
    ),
    "incomplete": answer(
        message(0, "Once upon a", status="incomplete"), end="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
    ),
    "filtered": answer(
        message(0, "I will", status="incomplete"), end="incomplete", incomplete_details={"reason": "content_filter"},
    ),
    "unknown_fields": answer(
        message(0, text_part("So", provider_data={"a": 1}), provider_fields={"b": [2]}),
        call(1, "look", "{}", caller={"type": "direct"}),
        usage={**USAGE, "num_search_queries": 2,
               "input_tokens_details": {**USAGE["input_tokens_details"], "audio_tokens": 5}},
        cost={"usd": 0.5},
    ),
}  # fmt: skip

ERROR = {"type": "server_error", "code": "server_error", "message": "The server had an error.", "param": None}


def _failed() -> list[Json]:
    started = answer(message(0, "Now that"))[:5]
    failed = {**RESPONSE, "status": "failed", "output": [], "usage": None,
              "error": {"code": "server_error", "message": "The server had an error."}}  # fmt: skip
    return [*started, *numbered([{"type": "error", "error": ERROR}, event("failed", response=failed)])]


def _llama_cpp() -> list[Json]:
    """No numbers and no indexes; nothing is closed before the end; calls have no id of their own."""
    thought, text, arguments = "The user greets.", "Hello there", '{"q": 7}'
    reasoned: Json = {"id": "rs_a1", "type": "reasoning", "summary": [], "encrypted_content": ""}
    spoken: Json = {"id": "msg_b2", "type": "message", "role": "assistant"}
    called: Json = {"type": "function_call", "call_id": "fc_c3", "name": "look"}
    output: list[Json] = [
        {**reasoned, "status": "completed", "content": [{"type": "reasoning_text", "text": thought}]},
        {**spoken, "status": "completed",
         "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]},
        {**called, "status": "completed", "arguments": arguments},
    ]  # fmt: skip
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    begun: Json = {"id": "resp_d4", "object": "response", "status": "in_progress"}
    usage = {"input_tokens": 12, "output_tokens": 7, "total_tokens": 19}
    return [
        event("created", response=begun),
        event("in_progress", response=begun),
        event("output_item.added", item={**reasoned, "status": "in_progress", "content": []}),
        *(event("reasoning_text.delta", item_id="rs_a1", delta=word) for word in tokens(thought)),
        event("output_item.added", item={**spoken, "status": "in_progress", "content": []}),
        event("content_part.added", item_id="msg_b2", part={"type": "output_text", "text": ""}),
        *(event("output_text.delta", item_id="msg_b2", delta=word) for word in tokens(text)),
        event("output_item.added", item={**called, "status": "in_progress", "arguments": ""}),
        *(event("function_call_arguments.delta", item_id="fc_c3", delta=each) for each in ('{"q"', ": 7}")),
        event("output_item.done", item=output[0]),
        event("output_text.done", item_id="msg_b2", text=text),
        event("content_part.done", item_id="msg_b2", part=part),
        event("output_item.done", item=output[1]),
        event("output_item.done", item=output[2]),
        event("completed", response={**begun, "status": "completed", "model": "m.gguf", "output": output,
                                     "usage": usage, "created_at": 1_750_000_000, "completed_at": 1_750_000_003}),
    ]  # fmt: skip


def _vllm() -> list[Json]:
    """No `queued`; events of a part of reasoning that OpenAI does not define; another id in the deltas."""
    renamed = {"content_part.added": "reasoning_part.added", "content_part.done": "reasoning_part.done"}
    thought = [
        {**each, "type": f"response.{renamed.get(each['type'].removeprefix('response.'), each['type'][9:])}"}
        for each in reasoning_text(0, "The user greets.")
    ]
    spoken = [{**each, "item_id": ""} if "item_id" in each else each for each in message(1, "Hello there")]
    usage = {**USAGE, "input_tokens_details": {"cached_tokens": 4, "input_tokens_per_turn": [12]},
             "output_tokens_details": {"reasoning_tokens": 3, "tool_output_tokens": 2}}  # fmt: skip
    return answer(thought, spoken, usage=usage)


def _without(events: Iterable[Json], *names: str) -> list[Json]:
    return [each for each in events if each["type"].removeprefix("response.") not in names]


STREAMS: dict[str, list[Json]] = {
    **EXACT,
    "interleaved_calls": answer(interleaved(call(0, "look", '{"q"', ":1}"), call(1, "look", '{"q":', "2", "}"))),
    "overtaken_message": answer(interleaved(message(0, "One", "two"), call(1, "look", "{}"))),
    "overtaken_reasoning": answer(interleaved(reasoning(0, encrypted_content=ENCRYPTED), message(1, "So."))),
    "failed": _failed(),
    "error_alone": _failed()[:-1],
    "error_object": [*answer(message(0, "Now that"))[:5], {"error": ERROR}],
    "truncated": answer(message(0, "And then it"))[:6],
    "llama_cpp": _llama_cpp(),
    "vllm": _vllm(),
    "without_deltas": _without(EXACT["encrypted_summary"], "output_text.delta", "reasoning_summary_text.delta"),
    "without_parts": _without(EXACT["annotations"], "content_part.added", "content_part.done", "output_text.done"),
    "only_items": _without(
        EXACT["unknown_fields"], "content_part.added", "content_part.done", "output_text.done", "output_text.delta",
        "function_call_arguments.delta", "function_call_arguments.done",
    ),
    "only_end": [EXACT["hosted_tools"][0], EXACT["hosted_tools"][-1]],
    "whole_object": [EXACT["summary"][-1]["response"]],
    "unknown_events": [
        *EXACT["text"][:4], event("steering.changed", note="x", sequence_number=4), *EXACT["text"][4:],
    ],
    "cancelled": answer(message(0, "Once", status="incomplete"), end="cancelled"),
    "empty_message": answer(message(0)),
    "nothing": answer(usage=None),
    "separators": answer(message(0, text_part("a\u2028b \u0085\x00 \ufeff\r\n\n"))),
    "cut_surrogates": [
        each if each.get("delta") != " and" else {**each, "delta": " \ude00 and"}
        for each in (
            {**each, "delta": "smile\ud83d"} if each.get("delta") == "smile" else each
            for each in _without(
                answer(message(0, "smile and smile and")), "output_text.done", "content_part.done", "output_item.done"
            )[:-1]
        )
    ],
}  # fmt: skip
