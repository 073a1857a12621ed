"""An oracle: chat chunks added up in the simplest way.

The oracle uses nothing of Tailrace, so it can check both the reading of an upstream and the writing of a wire format.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from support.chat_chunks import Json

KNOWN_OF_A_CHUNK = {
    "id", "object", "created", "model", "choices", "usage", "error", "obfuscation", "sequence_number",
}  # fmt: skip
KNOWN_OF_A_CHOICE = {"index", "delta", "message", "finish_reason", "logprobs", "usage", "error"}
KNOWN_OF_AN_ERROR = {"message", "code", "type", "param"}
KNOWN_OF_A_DELTA = {
    "role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "annotations", "obfuscation",
}  # fmt: skip
KNOWN_OF_A_CALL = {"index", "id", "type", "function", "custom"}


def fold_chunks(chunks: Iterable[Json]) -> Json:
    """All chunks added up: `choices` by index, `usage`, `error`, and each other field in `chunk_fields`: objects
    merged, of other values the last.

    A choice has `content`, `reasoning`, `refusal` (None if there is none), `tool_calls` (in the order in which their
    names arrived; each with the last of its other fields in `call`; a custom tool's input is in `arguments`),
    `finish_reason`, `logprobs`, `annotations`, in `delta` the sum of its deltas' other fields, and in `choice` its own:
    objects merged, lists joined, of other values the last. `items` are the texts, reasonings, refusals and calls in
    order, choice by choice. Halves of a surrogate pair are joined within one run of a kind. Empty strings, lists
    and objects mean the same as null.
    """
    folded: Json = {"choices": {}, "usage": None, "error": None, "chunk_fields": {}}
    choices: dict[int, _Choice] = {}
    for each in chunks:
        error = _error_of(each)
        known = KNOWN_OF_A_CHUNK | KNOWN_OF_AN_ERROR if error is each else KNOWN_OF_A_CHUNK
        for key, value in each.items():
            if key not in known and not is_empty(value):
                folded["chunk_fields"][key] = _merged(folded["chunk_fields"].get(key), value)
        folded["error"] = folded["error"] or error
        folded["usage"] = each.get("usage") or folded["usage"]
        for choice in each.get("choices") or ():
            choices.setdefault(choice.get("index") or 0, _Choice()).add(choice)
    if not folded["usage"]:
        folded["usage"] = next((each.usage for each in choices.values() if each.usage), None)
    folded["choices"] = {index: choices[index].folded() for index in sorted(choices)}
    folded["items"] = [item for index in sorted(choices) for item in choices[index].items(index)]
    return folded


def _error_of(chunk: Json) -> Any:
    """The error that a chunk has: in `error`, on a choice, or the chunk itself."""
    on_choices = [choice["error"] for choice in chunk.get("choices") or () if choice.get("error")]
    if chunk.get("error") or on_choices:
        return chunk.get("error") or on_choices[0]
    is_bare = "choices" not in chunk and "message" in chunk and chunk.keys() & {"code", "type"}
    return chunk if chunk.get("object") == "error" or is_bare else None


class _Choice:
    def __init__(self) -> None:
        self.usage: Json | None = None
        self._runs: list[tuple[str, list[str]]] = []
        self._calls: list[Json] = []
        self._together: list[Json] = []  # those that were last named together
        self._named: list[Json] = []
        self._finish: str | None = None
        self._logprobs: dict[str, list[Json]] = {}
        self._annotations: list[Json] = []
        self._delta: Json = {}
        self._choice: Json = {}

    def add(self, choice: Json) -> None:
        self._finish = choice.get("finish_reason") or self._finish
        self.usage = choice.get("usage") or self.usage
        for key, value in (choice.get("logprobs") or {}).items():
            if value:
                self._logprobs.setdefault(key, []).extend(value)
        for key, value in choice.items():
            if key not in KNOWN_OF_A_CHOICE and not is_empty(value):
                joined = isinstance(value, list) and isinstance(self._choice.get(key), list)
                self._choice[key] = self._choice[key] + value if joined else _merged(self._choice.get(key), value)
        delta = choice.get("delta") or {}
        self._add_text("reasoning", delta.get("reasoning_content"))
        if delta.get("reasoning") != delta.get("reasoning_content"):
            self._add_text("reasoning", delta.get("reasoning"))
        content = delta.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            self._add_part(part)
        if delta.get("annotations"):
            self._begin("content")
            self._annotations += delta["annotations"]
        self._add_text("refusal", delta.get("refusal"))
        self._add_calls(delta.get("tool_calls") or [])
        for key, value in delta.items():
            if key not in KNOWN_OF_A_DELTA and not is_empty(value):
                self._delta[key] = _sum(self._delta[key], value) if key in self._delta else value

    def _begin(self, kind: str) -> None:
        if not self._runs or self._runs[-1][0] != kind:
            self._runs.append((kind, []))

    def _add_text(self, kind: str, text: str | None) -> None:
        if text:
            self._begin(kind)
            self._runs[-1][1].append(text)

    def _add_part(self, part: Json) -> None:
        if part["type"] == "text":
            self._add_text("content", part["text"])
        elif part["type"] == "thinking":
            for thought in part["thinking"]:
                self._add_text("reasoning", thought["text"])
        else:
            self._delta["content_parts"] = [*self._delta.get("content_parts", []), part]

    def _add_calls(self, fragments: list[Json]) -> None:
        nameless = [each for each in fragments if not each.get("id") and not (each.get("function") or {}).get("name")]
        together = len(fragments) > 1 and nameless == fragments and not any("index" in each for each in fragments)
        before = len(self._calls)
        for place, fragment in enumerate(fragments):
            self._add_call(fragment, self._together[place] if together else None)
        if len(self._calls) > before:
            self._together = self._calls[before:]

    def _add_call(self, fragment: Json, known: Json | None) -> None:
        function, custom = fragment.get("function") or {}, fragment.get("custom")
        if custom:
            function = {"name": custom.get("name"), "arguments": custom.get("input")}
        call = known or self._call_of(fragment.get("index"), fragment.get("id"), function.get("name"))
        call["id"] = call["id"] or fragment.get("id")
        call["is_custom"] = call["is_custom"] or bool(custom)
        if function.get("name") and not call["name"]:
            call["name"] = function["name"]
            self._named.append(call)
            self._runs.append(("call", []))
        call["arguments"].append(function.get("arguments") or "")
        call["call"].update({k: v for k, v in fragment.items() if k not in KNOWN_OF_A_CALL and not is_empty(v)})

    def _call_of(self, index: int | None, id: str | None, name: str | None) -> Json:  # noqa: A002
        same = [call for call in self._calls if call["index"] == index] if index is not None else self._calls
        for call in reversed(same):
            if id and call["id"] == id:
                return call
        is_new = not same or (id and name and same[-1]["id"])
        if is_new:
            self._calls.append(
                {"index": index, "id": id, "name": None, "arguments": [], "call": {}, "is_custom": False}
            )
            return self._calls[-1]
        return same[-1]

    def folded(self) -> Json:
        def text_of(kind: str) -> str | None:
            texts = [_without_lone_surrogates("".join(run)) for kind_of_run, run in self._runs if kind_of_run == kind]
            return "".join(texts) or None

        return {
            "content": text_of("content"),
            "reasoning": text_of("reasoning"),
            "refusal": text_of("refusal"),
            "tool_calls": self._folded_calls(),
            "finish_reason": self._finish,
            "logprobs": self._logprobs,
            "annotations": self._annotations,
            "delta": self._delta,
            "choice": self._choice,
        }

    def _folded_calls(self) -> list[Json]:
        return [
            {"id": call["id"], "name": call["name"], "arguments": _without_lone_surrogates("".join(call["arguments"])),
             "call": call["call"], "is_custom": call["is_custom"]}
            for call in self._named
        ]  # fmt: skip

    def items(self, index: int) -> Iterator[Json]:
        """The items that are not empty."""
        calls = iter(self._folded_calls())
        for kind, run in self._runs:
            if kind == "call":
                yield {"choice": index, "type": "call", **next(calls)}
            elif text := _without_lone_surrogates("".join(run)):
                name = "text" if kind == "content" else kind
                yield {"choice": index, "type": name, "text": text}


def _merged(known: Any, value: Any) -> Any:
    """Objects field by field, else the later value."""
    if not (isinstance(known, dict) and isinstance(value, dict)):
        return value
    return known | {key: _merged(known.get(key), each) for key, each in value.items() if each is not None}


def is_empty(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _without_lone_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _sum(left: Any, right: Any) -> Any:
    match left, right:
        case (str(), str()) | (list(), list()):
            return left + right
        case dict(), dict():
            return {**left, **{key: _sum(left[key], value) if key in left else value for key, value in right.items()}}
        case _:
            return right
