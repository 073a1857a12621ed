"""The part of an answer that another attempt can continue (`on_interrupt: continue`).

Only one open text of choice 0 can be: an upstream is sent it as the beginning of the assistant's message. An answer
with reasoning, a refusal, calls, several choices or citations starts over, as does one whose form the upstream enforces
from its first token on (JSON, a grammar, a call that is required), and one whose request ends with a message of the
assistant's.
"""

from typing import Any

from tailrace.errors import InvalidRequest
from tailrace.events import GenerationRecord, Json, objects_in
from tailrace.log.output import Output
from tailrace.translation import chat_request, json_format_of
from tailrace_worker.upstream.dialect import PartialAnswer

ENFORCED = (
    "grammar", "json_schema",  # llama.cpp
    "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structural_tag", "structured_outputs",  # vLLM
)  # fmt: skip


def partial_answer(output: Output, record: GenerationRecord, request: Json) -> PartialAnswer | None:
    """The open text to be continued; None where the answer has to start over."""
    items = output.items()
    if len(items) != 1 or output.choices() != [0]:
        return None
    (item,) = items
    is_open_text = item.type == "text" and item.choice == 0 and output.open == [item.item]
    if not (is_open_text and item.text) or item.annotations or not is_free(record, request):
        return None
    return PartialAnswer(item, output.continued + 1)


def is_free(record: GenerationRecord, request: Json) -> bool:
    """Whether nothing in the request forbids to continue its answer."""
    try:
        chat = chat_request(record.api, request)
    except InvalidRequest:
        return False
    messages: list[Any] = objects_in(chat.get("messages"))
    return (
        chat.get("n") in (None, 1)
        and chat.get("tool_choice") in (None, "auto", "none")
        and json_format_of("chat", chat) is None
        and not any(chat.get(name) for name in ENFORCED)
        and bool(messages)
        and messages[-1].get("role") != "assistant"
    )
