"""The Chat Completion object, the answer to a request without `stream`: the sum of the chunks of the stream.

It is made of the log's entries, because the `output` of `done` lacks the upstream's other fields (audio,
`system_fingerprint`, `logprobs` of refusals).

Rule 1: deltas and logprobs are added up: texts are joined, objects are added up field by field, elements of a list with
an `index` are added to the element of that index, and all others are appended. Of other values the last counts, also of
texts that name something (`id`, `type`, …).
Rule 2: other fields of chunks and choices are merged: objects field by field (Groq's `x_groq` begins with a seed and
ends with the usage), lists of a choice are joined (vLLM's `token_ids`), and of all other values the last counts, so of
lists of a chunk too, which every chunk repeats (Perplexity's `citations`).
Rule 3: `restarted` discards what came before it.
"""

from typing import Any

from tailrace import jsoncodec
from tailrace.events import Done, Entry, GenerationRecord, Json, Restarted, objects_in
from tailrace.ids import CHAT_COMPLETION_PREFIX, id_as
from tailrace.wire import openai_chat

NAMES = frozenset({"format", "id", "name", "role", "type"})
"""Fields whose texts are not joined: a repetition means the same."""


class ChatCompletion:
    """The answer so far. `done` is its end, once that was added."""

    def __init__(self, record: GenerationRecord) -> None:
        self.done: Done | None = None
        self._record = record
        self._choices: dict[int, _Choice] = {}
        self._fields: Json = {}

    def add(self, entry: Entry) -> None:
        """Add the entry that follows."""
        if isinstance(entry.event, Restarted):
            self._choices.clear()
            self._fields.clear()
        elif isinstance(entry.event, Done):
            self.done = entry.event
        chunks, _ = openai_chat.chunks(self._record, entry)
        for chunk in chunks:
            for choice in chunk.pop("choices"):
                self._choices.setdefault(choice["index"], _Choice()).add(choice)
            merge(self._fields, chunk)

    def encode(self) -> bytes:
        """The object as JSON. The answer is whole: `done` was added, and is no failure."""
        return jsoncodec.dumps(self.as_json())

    def as_json(self) -> Json:
        """The same as a value."""
        assert self.done is not None, "the end was added"
        known = {
            "id": id_as(CHAT_COMPLETION_PREFIX, self._record.id),
            "object": "chat.completion",
            "created": self._record.created // 1000,
            "model": self._record.model,
            "choices": [self._choices[index].as_json(index) for index in sorted(self._choices)],
            "usage": self.done.usage,
        }
        return known | {name: value for name, value in self._fields.items() if name not in known}


class _Choice:
    def __init__(self) -> None:
        self._message: Json = {}
        self._logprobs: Json = {}
        self._fields: Json = {}

    def add(self, choice: Json) -> None:
        fields = dict(choice)
        add(self._message, fields.pop("delta"))
        add(self._logprobs, fields.pop("logprobs", None) or {})
        merge(self._fields, fields, joins_lists=True)

    def as_json(self, index: int) -> Json:
        logprobs = {"content": None, "refusal": None} | joined(self._logprobs) if self._logprobs else None
        known = {"index": index, "message": message(joined(self._message)), "logprobs": logprobs}
        return known | {"finish_reason": "stop"} | self._fields


def message(delta: Json) -> Json:
    """The message that the sum of a choice's deltas is. `content` is null where there is another answer than a text."""
    others = delta.keys() - {"role", "annotations", "reasoning", "reasoning_content"}
    content = None if others else ""
    value: Json = {"role": "assistant", "content": content, "refusal": None, "annotations": []} | delta
    if calls := objects_in(value.get("tool_calls")):
        value["content"] = value["content"] or None
        value["tool_calls"] = [{name: each for name, each in call.items() if name != "index"} for call in calls]
    return value


def merge(values: Json, more: Json, *, joins_lists: bool = False) -> None:
    """Merge other fields (rule 2). A null changes nothing."""
    for name, value in more.items():
        match values.get(name), value:
            case _, None:
                pass
            case dict() as known, dict():
                values[name] = merged = dict(known)
                merge(merged, value)
            case list() as known, list() if joins_lists:
                known += value
            case _, list() if joins_lists:
                values[name] = [*value]  # not the entry's own: it grows
            case _:
                values[name] = value


class Parts:
    """A text in pieces: joined once, where adding each to the text before it would copy that."""

    __slots__ = ("texts",)

    def __init__(self, text: str) -> None:
        self.texts = [text]


def add(values: Json, more: Json) -> None:
    """Add an object up (rule 1)."""
    for name, value in more.items():
        match values.get(name), value:
            case known, None if known is not None:
                pass
            case Parts() as parts, str():
                parts.texts.append(value)
            case _, str() if name not in NAMES:
                values[name] = Parts(value)
            case dict() as known, dict():
                add(known, value)
            case _, dict():
                values[name] = _added_up(value)
            case known, list():
                values[name] = known if isinstance(known, list) else []
                _add_elements(values[name], value)
            case _:
                values[name] = value


def _added_up(value: Json) -> Json:
    values: Json = {}
    add(values, value)
    return values


def _add_elements(values: list[Any], more: list[Any]) -> None:
    places = {each["index"]: each for each in values if _has_index(each)}
    for each in more:
        if not _has_index(each):
            values.append(each)
        elif each["index"] in places:
            add(places[each["index"]], each)
        else:
            values.append(_added_up(each))


def _has_index(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("index"), int)


def joined(value: Any) -> Any:
    """A value that was added up, with its texts joined. Elements without an `index` are as they came."""
    match value:
        case Parts():
            return "".join(value.texts)
        case dict():
            return {name: joined(each) for name, each in value.items()}
        case list():
            return [joined(each) if _has_index(each) else each for each in value]
    return value
