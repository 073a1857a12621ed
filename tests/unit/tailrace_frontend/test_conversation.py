"""A request's whole input, without Redis: generations and their ends are in dictionaries."""

import asyncio
from typing import Any

import msgspec
import pytest

from support.logs import record
from tailrace import jsoncodec
from tailrace.errors import (
    Gone,
    InvalidRequest,
    NotFound,
    ObjectNotFound,
    PreviousResponseNotFound,
    RequestTooLarge,
    TailraceError,
)
from tailrace.events import Item
from tailrace.log.codec import StoredDone
from tailrace.log.state import GenerationState
from tailrace_frontend.conversation import MAX_REFERENCED, Conversations, is_continuation
from tailrace_frontend.large_requests import TURN_BYTES, Turn

FIRST, SECOND, RUNNING, UNSTORED, CHAT = ("abcdefghijklmnopqrstuvwxy" + last for last in "zabcd")
USER = {"role": "user", "content": "Weather?"}
OUTPUT = [
    Item(0, "reasoning", text="Hm."),
    Item(1, "text", text="Let me look.", logprobs=[{"token": "Let"}]),
    Item(2, "call", id="c1", name="look", arguments="{}", tool=0),
    Item(3, "call", id="c2", name="look", arguments='{"', tool=1, status="incomplete"),
    Item(4, "text", choice=1, text="Another choice."),
]


def kept(suffix: str, status: Any = "completed", **fields: Any) -> GenerationState:
    fixed = {"id": f"gen_{suffix}", "api": "responses", "logprobs": True}
    return GenerationState(
        record(**(fixed | fields)), status, epoch=1, attempt=1, seq=5, lease=0, deadline=0, job_id="j"
    )


class Stored:
    """Generations and their log, as far as conversations know them."""

    def __init__(self) -> None:
        self.reads = asyncio.Semaphore(1)
        self.states = {
            state.record.id: state
            for state in (
                kept(FIRST), kept(SECOND), kept(RUNNING, "running"), kept(UNSTORED, store=False),
                kept(CHAT, api="chat"),
            )
        }  # fmt: skip
        self.requests: dict[str, Any] = {
            f"gen_{FIRST}": {"input": "Weather?"},
            f"gen_{SECOND}": {"input": [USER]},
            f"gen_{RUNNING}": {"input": [USER]},
            f"gen_{CHAT}": {"messages": [{"role": "system", "content": "Be."}, USER]},
        }
        self.looks: list[str] = []

    async def find(self, generation_id: str, owner: str) -> GenerationState:
        if owner != "anna":
            raise NotFound
        if generation_id == "gen_" + "g" * 26:
            raise Gone("deleted")
        if generation_id not in self.states:
            raise NotFound
        return self.states[generation_id]

    async def request_bytes(self, generation_id: str) -> int:
        return len(jsoncodec.dumps(self.requests[generation_id]))

    async def stored_request(self, generation_id: str) -> memoryview:
        self.looks.append(generation_id)
        return memoryview(jsoncodec.dumps(self.requests[generation_id]))

    async def done(self, _: str) -> StoredDone | None:
        return StoredDone("completed", 1.0, msgspec.Raw(jsoncodec.dumps(OUTPUT)))


async def resolve(
    stored: Stored | None = None,
    *,
    owner: str = "anna",
    max_bytes: int = 10_000,
    turn: Turn | None = None,
    **request: Any,
) -> Any:
    stored = stored or Stored()
    conversations = Conversations(stored, stored, max_bytes)  # type: ignore[arg-type]
    async with turn or Turn(asyncio.Lock()) as own:
        return await conversations.resolve(owner, {"model": "m"} | request, own)


def reference(item_id: str) -> dict[str, Any]:
    return {"type": "item_reference", "id": item_id}


async def test_request_that_continues_nothing_stays_as_it_is() -> None:
    for value in ("Hello?", [USER], None):
        request = {"model": "m", "input": value}
        stored: Any = Stored()
        assert not is_continuation(request)
        assert await Conversations(stored, stored, 1).resolve("anna", request, Turn(asyncio.Lock())) is request


async def test_input_and_output_of_the_previous_response_stand_before_the_input() -> None:
    resolved = await resolve(previous_response_id=f"resp_{FIRST}", input="And now?")
    ids = [item.get("id") for item in resolved["input"]]
    assert ids == [f"msg_{FIRST}_i0", f"rs_{FIRST}_0", f"msg_{FIRST}_1", f"fc_{FIRST}_2", None]
    first, thought, text, call, now = resolved["input"]
    assert first["content"] == [{"type": "input_text", "text": "Weather?"}]
    assert thought["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert text["content"] == [{"type": "output_text", "text": "Let me look.", "annotations": [], "logprobs": []}]
    assert (call["call_id"], call["arguments"]) == ("c1", "{}")
    assert now == {"type": "message", "role": "user", "content": "And now?"}
    assert resolved["previous_response_id"] == f"resp_{FIRST}"


async def test_previous_chat_completion_is_continued_too() -> None:
    resolved = await resolve(previous_response_id=f"resp_{CHAT}")
    assert [item.get("role") for item in resolved["input"]] == ["system", "user", None, "assistant", None]


@pytest.mark.parametrize(
    "response_id",
    [f"resp_{'z' * 26}", f"resp_{'g' * 26}", f"resp_{UNSTORED}", f"gen_{FIRST}", "resp_", "", "x" * 300],
)
async def test_previous_response_that_is_not_there_is_refused(response_id: str) -> None:
    with pytest.raises(PreviousResponseNotFound) as refusal:
        await resolve(previous_response_id=response_id)
    assert refusal.value.message == f"Previous response with id '{response_id[:100]}' not found."
    assert (refusal.value.status, refusal.value.param) == (400, "previous_response_id")


async def test_previous_response_of_another_caller_is_not_there() -> None:
    with pytest.raises(PreviousResponseNotFound):
        await resolve(owner="ben", previous_response_id=f"resp_{FIRST}")


async def test_previous_response_must_have_ended() -> None:
    with pytest.raises(InvalidRequest, match="has not ended") as refusal:
        await resolve(previous_response_id=f"resp_{RUNNING}")
    assert refusal.value.param == "previous_response_id"


async def test_references_are_replaced_by_their_items() -> None:
    asked = [reference(f"msg_{FIRST}_i0"), reference(f"msg_{FIRST}_1"), USER, {"id": f"fc_{SECOND}_2"}]
    resolved = await resolve(input=asked)
    items = resolved["input"]
    assert [item.get("id") for item in items] == [f"msg_{FIRST}_i0", f"msg_{FIRST}_1", None, f"fc_{SECOND}_2"]
    assert (items[0]["role"], items[1]["role"], items[3]["type"]) == ("user", "assistant", "function_call")


async def test_request_of_a_generation_is_read_for_references_to_its_input_only() -> None:
    stored = Stored()
    await resolve(stored, input=[reference(f"msg_{FIRST}_1"), reference(f"msg_{SECOND}_i0")])
    assert stored.looks == [f"gen_{SECOND}"]


@pytest.mark.parametrize(
    "item_id",
    [
        f"msg_{FIRST}_9", f"msg_{FIRST}_i1", f"msg_{RUNNING}_1", f"msg_{UNSTORED}_1", f"msg_{'z' * 26}_1",
        f"msg_{'g' * 26}_1", "msg_theirs", "None",
    ],
)  # fmt: skip
async def test_item_that_is_not_there_is_refused(item_id: str) -> None:
    with pytest.raises(ObjectNotFound) as refusal:
        await resolve(input=[USER, reference(item_id)])
    assert (refusal.value.status, refusal.value.code, refusal.value.param) == (404, None, "input")
    assert refusal.value.message == f"Item with id '{item_id}' not found."


async def test_reference_to_the_input_of_a_running_response_is_resolved() -> None:
    resolved = await resolve(input=[reference(f"msg_{RUNNING}_i0")])
    assert resolved["input"][0]["role"] == "user"


async def test_references_lead_to_a_bounded_number_of_responses() -> None:
    digits = str.maketrans("0189", "wxyz")
    asked = [reference(f"msg_{str(number).translate(digits):a>26}_1") for number in range(300)]
    assert len({item["id"] for item in asked}) > MAX_REFERENCED
    with pytest.raises(InvalidRequest, match="more than 256 responses"):
        await resolve(input=asked)


@pytest.mark.parametrize("max_bytes", [5, 100])
async def test_look_is_bounded_in_bytes(max_bytes: int) -> None:
    with pytest.raises(RequestTooLarge) as refusal:
        await resolve(max_bytes=max_bytes, previous_response_id=f"resp_{FIRST}")
    assert refusal.value.param == "input"


async def test_large_conversation_waits_for_the_turn_before_it_is_read_and_holds_no_read_meanwhile() -> None:
    stored, lock = Stored(), asyncio.Lock()
    stored.requests[f"gen_{FIRST}"] = {"input": "x" * TURN_BYTES}
    await lock.acquire()
    resolving = asyncio.create_task(
        resolve(stored, turn=Turn(lock), max_bytes=2 * TURN_BYTES, previous_response_id=f"resp_{FIRST}")
    )
    assert not (await asyncio.wait({resolving}, timeout=0.05))[0]
    assert (stored.looks, stored.reads.locked()) == ([], False)
    await resolve(stored, previous_response_id=f"resp_{SECOND}", turn=Turn(lock))
    lock.release()
    assert len((await resolving)["input"]) == 4
    assert not lock.locked()


async def test_malformed_input_is_refused() -> None:
    for value in (3, ["x"]):
        with pytest.raises(TailraceError):
            await resolve(input=value, previous_response_id=f"resp_{FIRST}")
