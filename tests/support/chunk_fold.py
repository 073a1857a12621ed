"""An oracle: chat chunks added up in the simplest way.

The oracle uses nothing of Tailrace, so it can check both the reading of an upstream and the writing of a wire format.
"""

from collections.abc import Iterable
from typing import Any

from support.chat_chunks import Json

KNOWN_OF_A_CHUNK = {
    "id", "object", "created", "model", "choices", "usage", "error", "obfuscation", "sequence_number",
}  # fmt: skip
KNOWN_OF_A_CHOICE = {"index", "delta", "finish_reason", "logprobs", "usage"}
KNOWN_OF_A_DELTA = {
    "role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "annotations", "obfuscation",
}  # fmt: skip
KNOWN_OF_A_CALL = {"index", "id", "type", "function", "custom"}


def fold_chunks(chunks: Iterable[Json]) -> Json:
    """All chunks added up: `choices` by index, `usage`, `error`, and in `chunk_fields` the last of each other field.

    A choice has `content`, `reasoning`, `refusal` (None if there is none), `tool_calls` (in the order in which their
    names arrived; each with the last of its other fields in `call`; a custom tool's input is in `arguments`),
    `finish_reason`, `logprobs`, `annotations`, in `delta` the sum of its deltas' other fields, and in `choice` the last
    of each of its own. Halves of a surrogate pair are joined within one run of a kind. Empty strings, lists and objects
    mean the same as null.
    """
    folded: Json = {"choices": {}, "usage": None, "error": None, "chunk_fields": {}}
    choices: dict[int, _Choice] = {}
    for each in chunks:
        for key, value in each.items():
            if key not in KNOWN_OF_A_CHUNK and not _is_empty(value):
                folded["chunk_fields"][key] = value
        folded["error"] = folded["error"] or each.get("error")
        folded["usage"] = each.get("usage") or folded["usage"]
        for choice in each.get("choices") or ():
            choices.setdefault(choice.get("index") or 0, _Choice()).add(choice)
    if not folded["usage"]:
        folded["usage"] = next((each.usage for each in choices.values() if each.usage), None)
    folded["choices"] = {index: choices[index].folded() for index in sorted(choices)}
    return folded


class _Choice:
    def __init__(self) -> None:
        self.usage: Json | None = None
        self._runs: list[tuple[str, list[str]]] = []
        self._calls: list[Json] = []
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
            if key not in KNOWN_OF_A_CHOICE and not _is_empty(value):
                self._choice[key] = value
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
        for call in delta.get("tool_calls") or ():
            self._add_call(call)
        for key, value in delta.items():
            if key not in KNOWN_OF_A_DELTA and not _is_empty(value):
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

    def _add_call(self, fragment: Json) -> None:
        function, custom = fragment.get("function") or {}, fragment.get("custom")
        if custom:
            function = {"name": custom.get("name"), "arguments": custom.get("input")}
        call = self._call_of(fragment.get("index"), fragment.get("id"), function.get("name"))
        call["id"] = call["id"] or fragment.get("id")
        call["is_custom"] = call["is_custom"] or bool(custom)
        if function.get("name") and not call["name"]:
            call["name"] = function["name"]
            self._named.append(call)
            self._begin("call")
        call["arguments"].append(function.get("arguments") or "")
        call["call"].update({k: v for k, v in fragment.items() if k not in KNOWN_OF_A_CALL and not _is_empty(v)})

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

        calls = [
            {"id": call["id"], "name": call["name"], "arguments": _without_lone_surrogates("".join(call["arguments"])),
             "call": call["call"], "is_custom": call["is_custom"]}
            for call in self._named
        ]  # fmt: skip
        return {
            "content": text_of("content"),
            "reasoning": text_of("reasoning"),
            "refusal": text_of("refusal"),
            "tool_calls": calls,
            "finish_reason": self._finish,
            "logprobs": self._logprobs,
            "annotations": self._annotations,
            "delta": self._delta,
            "choice": self._choice,
        }


def _is_empty(value: Any) -> bool:
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
