"""The Chat Completion object, judged by the openai package: its types, strictly, and its sum of the stream's chunks."""

from pathlib import Path
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion as PackageCompletion
from openai.types.chat import ChatCompletionChunk

from support.for_each import for_each
from support.logs import caught_up
from support.wire_parsing import CASES, Case, chunks_of
from tailrace import jsoncodec
from tailrace.events import Entry
from tailrace.wire.chat_completion_object import ChatCompletion

TRANSCRIPTS = Path(__file__).parent.parent / "transcripts" / "object" / "chat"
UNTYPED = {"custom-calls", "openai_custom_call", "openai_moderation", "openrouter_error"}
"""Streams in which the upstream itself sends fields that the package has no type for."""

UNSUMMED = {"annotations-again", "openai_search", "openrouter_encrypted_reasoning"}
"""Answers with a second list of objects without `index`, which the package cannot add up from any sender."""


each_whole_case = for_each("case", [name for name in CASES if Case(name).is_whole], Case)


def object_of(case: Case, entries: list[Entry] | None = None) -> bytes:
    completion = ChatCompletion(case.record)
    for entry in case.entries if entries is None else entries:
        completion.add(entry)
    return completion.encode()


@pytest.mark.parametrize("log", sorted(path.name for path in TRANSCRIPTS.iterdir()))
def test_transcript(log: str) -> None:
    assert object_of(Case(f"{log}, asking")) + b"\n" == (TRANSCRIPTS / log).read_bytes()


@each_whole_case
def test_object_is_valid(case: Case) -> None:
    if case.name not in UNTYPED:
        PackageCompletion.model_validate_json(object_of(case), strict=True)


@each_whole_case
def test_object_is_the_same_where_a_catch_up_is_coalesced(case: Case) -> None:
    whole = object_of(case)
    for cut in range(len(case.entries) + 1):
        assert object_of(case, case.entries[:cut] + caught_up(case.entries[cut:])) == whole


@each_whole_case
def test_object_is_what_the_package_adds_up(case: Case) -> None:
    if case.name in UNTYPED | UNSUMMED:
        return
    state: Any = ChatCompletionStreamState()
    for chunk in chunks_of(case.record, case.last_attempt):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    summed, ours = state.current_completion_snapshot.to_dict(), jsoncodec.loads(object_of(case))
    assert [choice["index"] for choice in ours["choices"]] == [choice["index"] for choice in summed["choices"]]
    for choice, theirs in zip(ours["choices"], summed["choices"], strict=True):
        assert choice["finish_reason"] == (theirs["finish_reason"] or "stop")
        message = _meaning(theirs["message"])
        assert {name: value for name, value in _meaning(choice["message"]).items() if name in message} == message
        assert _meaning(choice["logprobs"]) == _meaning(theirs.get("logprobs"))


def _meaning(value: Any) -> Any:
    """A value without what has no meaning: null, empty texts and lists, and what the package adds to calls."""
    match value:
        case dict():
            named = {name: _meaning(each) for name, each in value.items() if name not in ("index", "parsed_arguments")}
            return {name: each for name, each in named.items() if each not in (None, "", [], {})}
        case list():
            return [_meaning(each) for each in value]
    return value
