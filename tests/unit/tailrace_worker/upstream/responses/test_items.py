"""An item of many parts costs as much a part as one of few."""

from typing import Any

import pytest

from tailrace_worker.upstream.responses import items
from tailrace_worker.upstream.responses.translator import ResponsesTranslator

TYPES = {"message": ("content", "output_text"), "reasoning": ("summary", "summary_text")}


def accesses(monkeypatch: pytest.MonkeyPatch, kind: str, parts: int) -> int:
    """How often an attribute of a part is read while an item with so many parts is streamed and repeated whole."""
    count = 0

    class CountedPart(items.Part):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            nonlocal count
            count += 1
            return super().__getattribute__(name)

    monkeypatch.setattr(items, "Part", CountedPart)
    field, part_type = TYPES[kind]
    middle = "reasoning_summary" if kind == "reasoning" else "content"
    index = f"{'summary' if kind == 'reasoning' else 'content'}_index"
    translator = ResponsesTranslator()
    translator.translate({"type": "response.output_item.added", "output_index": 0, "item": {"id": "a", "type": kind}})
    for k in range(parts):
        place = {"item_id": "a", "output_index": 0, index: k}
        for which in ("added", "done"):
            part = {"type": part_type, "text": str(k)}
            translator.translate({"type": f"response.{middle}_part.{which}", **place, "part": part})
    whole = {"id": "a", "type": kind, field: [{"type": part_type, "text": str(k)} for k in range(parts)]}
    translator.translate({"type": "response.output_item.done", "output_index": 0, "item": whole})
    translator.close()
    assert translator.malformed == 0
    return count


@pytest.mark.parametrize("kind", TYPES)
def test_work_of_an_item_is_linear_in_its_parts(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    few, many = accesses(monkeypatch, kind, 50), accesses(monkeypatch, kind, 500)
    assert few > 50
    assert many < 11 * few
