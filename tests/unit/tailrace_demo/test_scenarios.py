import json
import time
from typing import Any

import httpx2
import msgspec
import pytest
from openai import AsyncOpenAI, NotFoundError

from tailrace_demo.answers import ChatRequest, answer
from tailrace_demo.scenarios import MAX_REQUESTS, SCENARIOS, Repeats, UnknownScenario, play
from tailrace_demo.script import Deltas, Step, Usage

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ENDLESS = ("stall", "pings", "byte-by-byte", "oversized")
"""Beginnings of names: what does not end by itself."""

FAULTS = [name for name, row in SCENARIOS.items() if row.is_fault]
ANSWERS = [name for name in SCENARIOS if name not in FAULTS]


def steps(model: str, earlier: int = 0, **fields: Any) -> list[Step]:
    return list(play(msgspec.convert({"model": model, **fields}, ChatRequest), earlier))


def rates(played: list[Step]) -> set[float | None]:
    return {step.rate for step in played if isinstance(step, Deltas)}


async def ask(
    http: httpx2.AsyncClient, model: str, question: str = "?", path: str = CHAT, **fields: Any
) -> httpx2.Response:
    prompt = {"messages": [{"role": "user", "content": question}]} if path == CHAT else {"input": question}
    return await http.post(path, json={"model": model, "stream": True, "tokens_per_second": 1e6, **prompt, **fields})


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_has_steps_at_any_rate(name: str) -> None:
    assert steps(f"demo:{name}")
    assert steps(f"demo:{name}@200")
    assert steps(f"demo:{name}", tokens_per_second=7)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("name", [*ANSWERS, *(f"{name}-once" for name in FAULTS if not name.startswith(ENDLESS))])
async def test_answer_of_a_scenario_ends_with_done(http: httpx2.AsyncClient, name: str, path: str) -> None:
    ends = ("data: [DONE]\n\n",) if path == CHAT else ("event: response.completed\n", "event: response.incomplete\n")
    if name.endswith("-once"):
        try:
            first = await ask(http, f"demo:{name}", f"{name} {path}", path)
        except httpx2.TransportError:
            pass
        else:
            assert first.status_code >= 300 or not any(end in first.text for end in ends)
    response = await ask(http, f"demo:{name}", f"{name} {path}", path)
    assert response.status_code == 200
    assert any(end in response.text for end in ends) or name == "json"


@pytest.mark.parametrize("name", ANSWERS)
async def test_openais_client_reads_the_events_of_a_scenario(openai: AsyncOpenAI, name: str) -> None:
    extra = {"tokens_per_second": 1e6}
    whole = await openai.responses.create(model=f"demo:{name}", input="?", extra_body=extra)
    assert whole.status == ("incomplete" if name in ("length", "content-filter") else "completed")
    assert [item.type for item in whole.output] == {
        "reasoning": ["reasoning", "message"], "tools": ["function_call", "function_call"], "empty": [],
    }.get(name, ["message"])  # fmt: skip
    assert (whole.usage is None) == (name == "no-usage")
    if name in ("json", "malformed"):
        return  # no stream, and payloads that are none of the SDK's
    stream = await openai.responses.create(model=f"demo:{name}", input="?", stream=True, extra_body=extra)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(texts) == last.response.output_text == whole.output_text


async def test_models_answer_by_responses_as_well(openai: AsyncOpenAI) -> None:
    answered = await openai.responses.create(model="demo", input="?", extra_body={"tokens_per_second": 1e6})
    assert "demo model" in answered.output_text
    assert answered.usage is not None
    assert answered.usage.output_tokens > 10
    with pytest.raises(NotFoundError):
        await openai.responses.create(model="demo:stal", input="?")
    with pytest.raises(NotFoundError):
        await openai.responses.create(model="gpt", input="?")


def test_once_alternates_between_fault_and_answer() -> None:
    fault, whole = steps("demo:cut"), answer(ChatRequest(model="demo"))
    assert [steps("demo:cut-once", earlier) == fault for earlier in range(4)] == [True, False, True, False]
    assert [step for step in steps("demo:cut-once", 1) if isinstance(step, Deltas)] == [
        step for step in whole if isinstance(step, Deltas)
    ]


@pytest.mark.parametrize("name", ["tools", "reasoning", "refusal", "length", "malformed", "slow", "long", "empty"])
def test_usage_counts_the_deltas_that_are_played(name: str) -> None:
    played = steps(f"demo:{name}", stream=True, stream_options={"include_usage": True})
    (counted,) = [step.usage for step in played if isinstance(step, Usage)]
    deltas = [delta for step in played if isinstance(step, Deltas) for delta in step.deltas]
    assert counted["completion_tokens"] == len(deltas)
    reasoning = sum("reasoning_content" in delta for delta in deltas)
    assert counted["completion_tokens_details"] == {"reasoning_tokens": reasoning}


def test_rate_is_of_the_name_or_of_the_request() -> None:
    assert rates(steps("demo:cut")) == {40.0}
    assert rates(steps("demo:cut@200")) == {200.0}
    assert rates(steps("demo:cut", tokens_per_second=7)) == {7.0}
    assert rates(steps("demo:cut-once@200", 1)) == {200.0}
    assert rates(steps("demo:slow")) == {1.0}
    assert rates(steps("demo:fast")) == {None}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("demo:stal", "Is it `demo:stall`"),
        ("demo:stall-twice", "Is it `demo:stall"),
        ("demo:refusal-once", "no scenario `demo:refusal-once`"),
        ("demo:", "no scenario `demo:`"),
        ("demo:cut@fast", "The rate of `demo:cut@…`"),
        ("demo:cut@0", "The rate of `demo:cut@…`"),
        ("demo:cut@nan", "The rate of `demo:cut@…`"),
    ],
)
def test_unknown_scenario_is_refused_with_similar_names(model: str, message: str) -> None:
    with pytest.raises(UnknownScenario) as refused:
        steps(model)
    assert message in str(refused.value)


async def test_unknown_scenario_is_an_unknown_model(openai: AsyncOpenAI) -> None:
    with pytest.raises(NotFoundError) as refused:
        await openai.chat.completions.create(model="demo:stal", messages=[])
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "`tailrace demo-model --list` prints them all" in str(refused.value)


async def test_scenarios_are_not_among_the_models(openai: AsyncOpenAI) -> None:
    assert not [model.id async for model in openai.models.list() if ":" in model.id]


async def test_429_has_a_retry_after_and_its_repetition_an_answer(http: httpx2.AsyncClient) -> None:
    refused = await ask(http, "demo:429-once", "429?")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert (await ask(http, "demo:429-once", "429?")).status_code == 200
    assert (await ask(http, "demo:429-once", "another question")).status_code == 429


async def test_statuses_have_their_headers(http: httpx2.AsyncClient) -> None:
    assert (await ask(http, "demo:429-ms")).headers["retry-after-ms"] == "300"
    moved = await http.post(CHAT, json={"model": "demo:redirect", "messages": []}, follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (307, "/v1/elsewhere")
    codes = {name: (await ask(http, f"demo:{name}")).json()["error"]["code"] for name in ("402", "404")}
    assert codes == {"402": "insufficient_quota", "404": "model_not_found"}


async def test_json_scenarios_are_json(http: httpx2.AsyncClient) -> None:
    kinds = {}
    for name in ("json-mode", "json-misfit"):
        answered = (await ask(http, f"demo:{name}", stream=False)).json()
        kinds[name] = type(json.loads(answered["choices"][0]["message"]["content"]))
    assert kinds == {"json-mode": dict, "json-misfit": list}


async def test_slow_scenario_takes_its_time(http: httpx2.AsyncClient) -> None:
    began = time.monotonic()
    await ask(http, "demo:slow", tokens_per_second=100)
    assert 0.1 < time.monotonic() - began < 5


async def test_json_scenario_is_an_object(http: httpx2.AsyncClient) -> None:
    response = await ask(http, "demo:json")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["choices"][0]["message"]["content"].startswith("A short answer")
    assert (await ask(http, "demo:json", stream=False)).json()["choices"][0]["finish_reason"] == "stop"


def test_repeats_are_counted_by_model_and_messages() -> None:
    repeats = Repeats()
    one = ChatRequest(model="demo:cut-once", messages=[{"role": "user", "content": "a"}])
    faster = msgspec.structs.replace(one, tokens_per_second=9)
    other = msgspec.structs.replace(one, messages=[])
    assert [repeats.count(each) for each in (one, other, faster, one)] == [0, 0, 1, 2]
    assert repeats.count(one, "of a test") == 0


def test_repeats_forget_the_oldest_requests() -> None:
    repeats = Repeats()
    for k in range(MAX_REQUESTS + 1):
        repeats.count(ChatRequest(model=str(k)))
    assert repeats.count(ChatRequest(model="0")) == 0
    assert repeats.count(ChatRequest(model=str(MAX_REQUESTS))) == 1
