"""Folds the frames of an answer into the response to the same request without `stream`."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec

SET_ONCE = {"role", "id", "type", "name", "index"}
"""Fields that are replaced and not concatenated."""


def completion(frames: bytes) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks(frames):
        for fragment in chunk.pop("choices", ()):
            fold_choice(choices, fragment)
        folded.update(chunk)
    ordered = [choices[index] for index in sorted(choices)]
    return {**folded, "object": "chat.completion", "choices": ordered}


def chunks(frames: bytes) -> Iterator[dict[str, Any]]:
    return (each for each in objects_in(frames) if isinstance(each.get("choices", []), list))


def objects_in(frames: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects in the data of the frames. A script may have others, which are malformed."""
    for line in frames.split(b"\n"):
        if line.startswith(b"data: {"):
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line.removeprefix(b"data: "), type=dict[str, Any])


def fold_choice(choices: dict[int, dict[str, Any]], fragment: dict[str, Any]) -> None:
    index = fragment.get("index", 0)
    message = {"role": "assistant", "content": None}
    choice = choices.setdefault(index, {"index": index, "message": message, "finish_reason": None})
    choice["finish_reason"] = fragment.get("finish_reason") or choice["finish_reason"]
    fold(choice["message"], fragment.get("delta") or {})


def fold(into: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        known = into.get(name)
        if value is None or name in SET_ONCE or known is None:
            into[name] = known if value is None else value
        elif isinstance(value, dict):
            fold(known, value)
        elif isinstance(value, list):
            fold_list(known, value)
        else:
            into[name] = known + value


def fold_list(into: list[Any], items: list[Any]) -> None:
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        match = next((known for known in into if index is not None and known.get("index") == index), None)
        if match is None:
            into.append(item)
        else:
            fold(match, item)
