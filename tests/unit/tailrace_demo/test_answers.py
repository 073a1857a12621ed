import json
import time
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

WITHOUT_PAUSES = {"tokens_per_second": 1e6}


async def streamed(openai: AsyncOpenAI, model: str = "demo", **fields: Any) -> list[ChatCompletionChunk]:
    fields = {
        "messages": [{"role": "user", "content": "Why is the river calm?"}],
        "extra_body": WITHOUT_PAUSES,
    } | fields
    return [chunk async for chunk in await openai.chat.completions.create(model=model, stream=True, **fields)]


async def completion(openai: AsyncOpenAI, model: str = "demo", **fields: Any) -> ChatCompletion:
    fields = {
        "messages": [{"role": "user", "content": "Why is the river calm?"}],
        "extra_body": WITHOUT_PAUSES,
    } | fields
    answer: ChatCompletion = await openai.chat.completions.create(model=model, **fields)
    return answer


def text(chunks: list[ChatCompletionChunk], choice: int = 0) -> str:
    fragments = (each for chunk in chunks for each in chunk.choices if each.index == choice)
    return "".join(each.delta.content or "" for each in fragments)


def finish_reasons(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [each.finish_reason for chunk in chunks for each in chunk.choices if each.finish_reason]


async def test_demo_model_answers_in_json_where_it_is_asked_to(openai: AsyncOpenAI) -> None:
    chunks = await streamed(openai, response_format={"type": "json_object"})
    assert "did not read your question" in json.loads(text(chunks))["note"]


async def test_demo_model_does_not_pretend_to_have_read_the_question(openai: AsyncOpenAI) -> None:
    chunks = await streamed(openai)
    assert "did not read your question" in text(chunks)
    assert "the button on the page of `tailrace dev`" in text(chunks)
    for model in ("demo", "demo-reasoning", "demo-long"):
        answer = await completion(openai, model)
        assert "river" not in answer.model_dump_json()
    assert chunks[0].choices[0].delta.role == "assistant"
    assert finish_reasons(chunks) == ["stop"]


@pytest.mark.parametrize("stream", [True, False])
async def test_unknown_model_is_refused_with_the_names_of_the_models(openai: AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(NotFoundError) as refused:
        await openai.chat.completions.create(model="demo-lnog", messages=[], stream=stream)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "`demo-lnog` does not exist. The demo has demo, demo-reasoning, demo-tools, demo-long." in str(refused.value)


async def test_models_are_listed_without_the_one_that_needs_a_script(openai: AsyncOpenAI) -> None:
    listed = [model.id async for model in openai.models.list()]
    assert listed == ["demo", "demo-reasoning", "demo-tools", "demo-long"]


async def test_chunks_of_one_answer_share_an_id(openai: AsyncOpenAI) -> None:
    assert len({(chunk.id, chunk.created) for chunk in await streamed(openai)}) == 1


async def test_reasoning_precedes_the_text(openai: AsyncOpenAI) -> None:
    deltas = [each.delta for chunk in await streamed(openai, "demo-reasoning") for each in chunk.choices]
    reasoned = [k for k, delta in enumerate(deltas) if getattr(delta, "reasoning_content", None)]
    answered = [k for k, delta in enumerate(deltas) if delta.content]
    assert reasoned
    assert max(reasoned) < min(answered)


async def test_tool_calls_arrive_in_fragments(openai: AsyncOpenAI) -> None:
    chunks = await streamed(openai, "demo-tools")
    calls = [call for chunk in chunks for each in chunk.choices for call in each.delta.tool_calls or ()]
    names = {call.function.name for call in calls if call.function and call.function.name}
    assert names == {"get_weather", "get_local_time"}
    for index in (0, 1):
        fragments = [call.function.arguments or "" for call in calls if call.index == index and call.function]
        assert len(fragments) > 3
        assert json.loads("".join(fragments))["city"] == "Lisbon"
    assert finish_reasons(chunks) == ["tool_calls"]


async def test_tool_results_are_answered_with_text(openai: AsyncOpenAI) -> None:
    messages = [{"role": "tool", "tool_call_id": "call_0", "content": "18 degrees"}]
    assert finish_reasons(await streamed(openai, "demo-tools", messages=messages)) == ["stop"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_answer_is_cut_at_the_token_limit(openai: AsyncOpenAI, field: str) -> None:
    limit: dict[str, Any] = {field: 7}
    chunks = await streamed(openai, **limit)
    assert len([chunk for chunk in chunks if text([chunk])]) == 7
    assert finish_reasons(chunks) == ["length"]


async def test_choices_appear_in_the_order_of_their_index(openai: AsyncOpenAI) -> None:
    chunks = await streamed(openai, n=3)
    assert [chunk.choices[0].index for chunk in chunks[:3]] == [0, 1, 2]
    assert text(chunks, 2) == text(chunks, 0) != ""
    assert finish_reasons(chunks) == ["stop"] * 3


async def test_usage_is_sent_only_on_request(openai: AsyncOpenAI) -> None:
    chunks = await streamed(openai, max_tokens=5, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in await streamed(openai, max_tokens=5))


async def test_rate_is_set_by_the_request(openai: AsyncOpenAI) -> None:
    began = time.monotonic()
    await streamed(openai, max_tokens=11, extra_body={"tokens_per_second": 50})
    assert 0.2 <= time.monotonic() - began < 1


async def test_long_answer_has_a_few_thousand_tokens(openai: AsyncOpenAI) -> None:
    answer = await completion(openai, "demo-long")
    assert answer.usage is not None
    assert 2000 < answer.usage.completion_tokens < 5000


@pytest.mark.parametrize("model", ["demo", "demo-reasoning", "demo-tools"])
async def test_answer_without_stream_equals_the_streamed_one(openai: AsyncOpenAI, model: str) -> None:
    chunks = await streamed(openai, model)
    answer = await completion(openai, model)
    assert answer.object == "chat.completion"
    assert (answer.choices[0].message.content or "") == text(chunks)
    assert [answer.choices[0].finish_reason] == finish_reasons(chunks)
    assert answer.usage is not None
    if model == "demo-tools":
        calls = answer.choices[0].message.tool_calls or []
        assert [json.loads(call.function.arguments)["city"] for call in calls if call.type == "function"] == [
            "Lisbon",
            "Lisbon",
        ]
