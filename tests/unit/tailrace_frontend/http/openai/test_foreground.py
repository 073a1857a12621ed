"""Requests that create a generation, on a real server: what is a repetition, and what is stored."""

import asyncio
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from starlette.requests import Request

from support.log_writer import LogWriter
from tailrace import jsoncodec
from tailrace.errors import (
    ConcurrencyLimited,
    Gone,
    IdempotencyKeyReused,
    InvalidValue,
    ModelNotFound,
    PreviousResponseNotFound,
    Unavailable,
)
from tailrace.events import Failure, Json, Options
from tailrace.failures import failure
from tailrace.log.state import GenerationState
from tailrace.queue import limits_of_settings
from tailrace.wire import WIRE_FORMATS
from tailrace_frontend.callers import OPEN_KEY
from tailrace_frontend.http.openai import foreground
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.completion_waiter import CompletionWaiter

BODY: Json = {"model": "demo", "messages": [{"role": "user", "content": "?"}]}
OPTIONS = Options(deadline_s=60, retention_s=60, on_disconnect="cancel")
CHAT = WIRE_FORMATS["openai-chat"]
FIRST: Any = {"x-stainless-retry-count": "0"}
AGAIN: Any = {"x-stainless-retry-count": "1"}


def request(path: str = "/v1/chat/completions", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw})


async def create(services: Services, body: Json = BODY, path: str = "/v1/chat/completions", **headers: str) -> str:
    state = await foreground.create(services, request(path, **headers), OPEN_KEY, body, OPTIONS, body_bytes=100)
    return state.record.id


async def end(services: Services, generation_id: str, error: Failure | None = None) -> GenerationState:
    writer = await LogWriter.start(services.log, generation_id)
    await writer.write_text("Hi")
    await writer.end("failed" if error else "completed", error)
    return await services.log.state(generation_id)


# what is stored


async def test_request_is_stored_as_a_foreground_generation_with_its_options(services: Services) -> None:
    asked = BODY | {"stream_options": {"include_usage": True}}
    state = await foreground.create(services, request(), OPEN_KEY, asked, OPTIONS, {"logprobs": True}, body_bytes=100)
    assert state.record.foreground
    assert state.record.include_usage
    assert state.record.logprobs
    assert state.record.options == OPTIONS
    assert await services.log.request(state.record.id) == asked
    assert services.metrics.registry.get_sample_value("tailrace_generations_created_total") == 1


async def test_request_in_the_background_needs_no_place_and_is_no_foreground_one(services: Services) -> None:
    state = await services.log.state(await create(services))
    with CompletionWaiter(services.hub, state):
        with pytest.raises(Exception, match="Concurrent stream limit"):
            await create(services)
        fields = {"background": True}
        background = await foreground.create(services, request(), OPEN_KEY, BODY, OPTIONS, fields, body_bytes=100)
    assert (background.record.background, background.record.foreground) == (True, False)


@pytest.mark.parametrize("policy", ["continue", "cancel"])
async def test_header_decides_whether_a_generation_goes_on_without_its_client(services: Services, policy: str) -> None:
    state = await services.log.state(await create(services, x_tailrace_on_disconnect=policy))
    assert state.record.options.on_disconnect == policy


async def test_header_with_another_policy_is_refused_by_name(services: Services) -> None:
    with pytest.raises(InvalidValue) as refused:
        await create(services, x_tailrace_on_disconnect="stay")
    assert refused.value.param == "x-tailrace-on-disconnect"


async def test_request_is_refused_before_anything_is_stored(
    services: Services, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelNotFound):
        await create(services, BODY | {"model": "gpt-4o"})
    monkeypatch.setattr(services.hub, "draining", True)
    with pytest.raises(Unavailable):
        await create(services)
    assert await redis.dbsize() == 0


async def test_request_beyond_the_callers_streams_is_refused(services: Services) -> None:
    settings = services.settings.model_copy(update={"max_readers": 9, "max_readers_per_caller": 1})
    services.hub.settings = settings
    services.hub.limits_of = limits_of_settings(settings)
    with (
        CompletionWaiter(services.hub, await services.log.state(await create(services))),
        pytest.raises(ConcurrencyLimited),
    ):
        await create(services)


# repetitions


async def test_requests_without_a_count_are_generations_of_their_own(services: Services) -> None:
    assert await create(services) != await create(services)


async def test_repetition_gets_the_generation_of_its_first_request(services: Services) -> None:
    first = await create(services, **FIRST)
    assert await create(services, **AGAIN) == first
    assert await create(services, x_stainless_retry_count="2") == first
    await end(services, first)
    assert await create(services, **AGAIN) == first


async def test_repetitions_at_the_same_time_are_one_generation(services: Services) -> None:
    ids = await asyncio.gather(*(create(services, **AGAIN) for _ in range(10)))
    assert len(set(ids)) == 1


async def test_first_request_is_a_generation_of_its_own_and_the_one_that_is_repeated(services: Services) -> None:
    earlier, first = [await create(services, **FIRST) for _ in range(2)]
    assert earlier != first
    assert await create(services, **AGAIN) == first


@pytest.mark.parametrize(
    "other",
    [
        {"body": BODY | {"n": 2}},
        {"path": "/v1/responses"},
        {"x_tailrace_on_disconnect": "continue"},
    ],
)
async def test_request_that_differs_is_no_repetition(services: Services, other: Any) -> None:
    first = await create(services, **FIRST)
    assert await create(services, **(AGAIN | other)) != first


async def test_order_of_the_bodys_fields_is_no_difference(services: Services) -> None:
    first = await create(services, **FIRST)
    assert await create(services, dict(reversed(BODY.items())), **AGAIN) == first


@pytest.mark.parametrize("headers", [AGAIN, {"idempotency-key": "k"}])
async def test_repetition_after_a_rate_limit_is_a_new_generation_and_the_same_for_all(
    services: Services, headers: Any
) -> None:
    limited = msgspec.structs.replace(failure("upstream_rate_limited"), status=429)
    first = await create(services, **({"idempotency-key": "k"} if "idempotency-key" in headers else FIRST))
    await end(services, first, limited)
    second, again = await asyncio.gather(create(services, **headers), create(services, **headers))
    assert first != second == again
    await end(services, second, limited)
    third = await create(services, **headers)
    assert third not in (first, second)
    await end(services, third)
    assert await create(services, **headers) == third


async def test_repetition_of_a_failure_that_is_final_gets_it_again(services: Services) -> None:
    first = await create(services, **FIRST)
    await end(services, first, failure("upstream_error"))
    assert await create(services, **AGAIN) == first


async def test_idempotency_key_binds_its_body_and_its_path(services: Services) -> None:
    first = await create(services, idempotency_key="k")
    assert await create(services, idempotency_key="k") == first
    for other in ({"body": BODY | {"n": 2}}, {"path": "/v1/responses"}):
        with pytest.raises(IdempotencyKeyReused):
            await create(services, idempotency_key="k", **other)


# requests that are completed from other generations


class Resolution:
    """Completes a request, or fails once what it refers to is gone. `calls`: how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_gone = False

    async def __call__(self) -> foreground.WholeRequest:
        self.calls += 1
        if self.is_gone:
            raise PreviousResponseNotFound.of("resp_x")
        await asyncio.sleep(0)
        return foreground.WholeRequest(BODY | {"input": ["whole"]}, 1000)


async def complete(services: Services, resolve: Resolution, body: Json = BODY, **headers: str) -> GenerationState:
    return await foreground.create(
        services, request("/v1/responses", **headers), OPEN_KEY, body, OPTIONS, body_bytes=100, resolve=resolve
    )


KEYED: Any = {"idempotency-key": "k"}


@pytest.mark.parametrize(("first", "again"), [(KEYED, KEYED), (FIRST, AGAIN)])
@pytest.mark.parametrize("has_ended", [False, True])
async def test_repetition_is_found_before_it_is_completed(
    services: Services, first: Any, again: Any, has_ended: bool
) -> None:
    resolve = Resolution()
    state = await complete(services, resolve, **first)
    assert (await services.log.request(state.record.id))["input"] == ["whole"]
    if has_ended:
        await end(services, state.record.id)
    resolve.is_gone = True
    assert (await complete(services, resolve, **again)).record.id == state.record.id
    assert resolve.calls == 1
    assert await services.queue.jobs.depth() == 1


async def test_repetition_of_a_deleted_generation_is_gone_and_is_not_completed(services: Services) -> None:
    resolve = Resolution()
    state = await complete(services, resolve, **KEYED)
    await services.generations.delete(state.record.id, OPEN_KEY.owner)
    with pytest.raises(Gone):
        await complete(services, resolve, **KEYED)
    assert resolve.calls == 1


async def test_key_of_a_request_with_another_body_is_refused_before_it_is_completed(services: Services) -> None:
    resolve = Resolution()
    await complete(services, resolve, **KEYED)
    with pytest.raises(IdempotencyKeyReused):
        await complete(services, resolve, BODY | {"n": 2}, **KEYED)
    assert resolve.calls == 1


async def test_count_of_zero_is_completed_anew_and_claims_its_body_once_it_was(services: Services) -> None:
    resolve = Resolution()
    earlier = await complete(services, resolve, **FIRST)
    newer = await complete(services, resolve, **FIRST)
    assert earlier.record.id != newer.record.id
    resolve.is_gone = True
    with pytest.raises(PreviousResponseNotFound):
        await complete(services, resolve, **FIRST)
    assert (await complete(services, resolve, **AGAIN)).record.id == newer.record.id


async def test_request_that_cannot_be_completed_leaves_no_claim(services: Services, redis: Redis) -> None:
    resolve = Resolution()
    resolve.is_gone = True
    with pytest.raises(PreviousResponseNotFound):
        await complete(services, resolve, **KEYED)
    assert await redis.dbsize() == 0


async def test_repetitions_that_are_completed_at_the_same_time_are_one_generation(services: Services) -> None:
    resolve = Resolution()
    states = await asyncio.gather(*(complete(services, resolve, **KEYED) for _ in range(10)))
    assert len({state.record.id for state in states}) == 1
    assert await services.queue.jobs.depth() == 1


@pytest.mark.parametrize("headers", [KEYED, AGAIN])
async def test_repetition_after_a_rate_limit_is_completed_anew_and_found_from_then_on(
    services: Services, headers: Any
) -> None:
    resolve = Resolution()
    first = await complete(services, resolve, **headers)
    await end(services, first.record.id, msgspec.structs.replace(failure("upstream_rate_limited"), status=429))
    second = await complete(services, resolve, **headers)
    assert (second.record.id != first.record.id, resolve.calls) == (True, 2)
    resolve.is_gone = True
    assert (await complete(services, resolve, **headers)).record.id == second.record.id


@pytest.mark.parametrize("resolve", [None, Resolution()])
async def test_request_without_a_key_is_not_compared(
    services: Services, monkeypatch: pytest.MonkeyPatch, resolve: Any
) -> None:
    monkeypatch.setattr(jsoncodec, "canonical", None)
    await foreground.create(services, request(), OPEN_KEY, BODY, OPTIONS, body_bytes=100, resolve=resolve)
    with pytest.raises(TypeError):
        await create(services, **FIRST)
