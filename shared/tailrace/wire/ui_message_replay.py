"""A UI message that an answer continues, as a stream: what a page needs that resumes the answer.

The page of the AI SDK empties the message at the first `start` of a stream that it resumes (`resumeStreamIsReplay`, ai
7.0.173). Where the answer continues a message whose calls have results, the generation's stream has the new step
alone: a page that was reloaded would lose the calls, and its next request would not have them. So the stream that is
resumed begins with the parts that the message has had when the answer was asked for. A page that has asked by itself
has them, and does not get them.

Rule: a call is replayed by its input and its result, never by `tool-input-available`, at which the page would run the
tool once more. (A call without a result is therefore left as `input-streaming`. It is not sent to the model either.)
"""

from collections.abc import Iterator
from typing import Any

from tailrace import jsoncodec
from tailrace.events import Json, objects_in
from tailrace.wire import sse


def encode(message_id: str, request: Json) -> bytes:
    """The chunks that precede the generation's own stream; none where the answer is a message of its own."""
    last = (objects_in(request.get("messages")) or [{}])[-1]
    if last.get("role") != "assistant" or last.get("id") != message_id:
        return b""
    metadata = {"messageMetadata": last["metadata"]} if last.get("metadata") is not None else {}
    chunks = (chunk for at, part in enumerate(objects_in(last.get("parts"))) for chunk in _chunks(part, at))
    return b"".join(map(sse.data_frame, [{"type": "start", "messageId": message_id, **metadata}, *chunks]))


def _chunks(part: Json, at: int) -> Iterator[Json]:
    """A part's chunks. Parts of other types are not in a request that was accepted (`translation.ui_messages`)."""
    match part:
        case {"type": "step-start"}:
            yield {"type": "start-step"}
        case {"type": "text" | "reasoning" as kind, "text": str(text)}:
            own = part.get("id")
            text_id = own if isinstance(own, str) else f"before-{at}"
            yield {"type": f"{kind}-start", "id": text_id, **_metadata(part, "providerMetadata")}
            yield {"type": f"{kind}-delta", "id": text_id, "delta": text}
            yield {"type": f"{kind}-end", "id": text_id}
        case {"type": str(kind), "toolCallId": str()}:
            yield from _call_chunks(part, kind)
        case {"type": str(kind)} if kind.startswith(("source-", "data-")):
            yield part


def _call_chunks(part: Json, kind: str) -> Iterator[Json]:
    dynamic: Json = {"dynamic": True} if kind == "dynamic-tool" else {}
    name = str(part.get("toolName")) if dynamic else kind.removeprefix("tool-")
    call_id: Json = {"toolCallId": part["toolCallId"]}
    call = {**call_id, "toolName": name, **dynamic}
    yield {"type": "tool-input-start", **call, **_metadata(part, "callProviderMetadata")}
    given: Any = part.get("input", part.get("rawInput"))
    if part.get("state") == "output-error":
        yield {"type": "tool-input-error", **call, "input": given, "errorText": str(part.get("errorText") or "")}
        return
    yield {"type": "tool-input-delta", **call_id, "inputTextDelta": jsoncodec.dumps(given).decode()}
    yield from _approval_chunks(part, call_id)
    if part.get("state") == "output-available":
        yield {"type": "tool-output-available", **call_id, "output": part.get("output")}
    elif part.get("state") == "output-denied":
        yield {"type": "tool-output-denied", **call_id}


def _approval_chunks(part: Json, call_id: Json) -> Iterator[Json]:
    """The decision of the user about a call."""
    match part.get("approval"):
        case {"id": str(approval_id), "approved": bool(approved), **rest}:
            yield {"type": "tool-approval-request", "approvalId": approval_id, **call_id}
            reason = {"reason": rest["reason"]} if isinstance(rest.get("reason"), str) else {}
            yield {"type": "tool-approval-response", "approvalId": approval_id, "approved": approved, **reason}


def _metadata(part: Json, field: str) -> Json:
    given = part.get(field)
    return {"providerMetadata": given} if isinstance(given, dict) else {}
