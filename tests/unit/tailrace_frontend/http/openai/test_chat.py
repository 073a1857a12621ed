"""Chat Completions: what is refused before anything is stored, and where a resumption begins."""

from typing import Any

import pytest

from support.asgi import Response, ask
from support.log_writer import LogWriter
from tailrace import jsoncodec
from tailrace.events import Failure, GenerationRecord, Options
from tailrace.failures import failure
from tailrace.ids import new_generation_id, new_token
from tailrace.log.state import GenerationState
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace.wire import openai_chat, sse
from tailrace_frontend.app import Frontend
from tailrace_frontend.callers import OPEN_KEY
from tailrace_frontend.http.openai import chat
from tailrace_frontend.http.openai.answers import StreamedAnswer
from tailrace_frontend.services import Services

PATH = "/v1/chat/completions"
ID = "chatcmpl-abcdefghijklmnopqrstuvwxyz"
BODY = {"model": "demo", "messages": [{"role": "user", "content": "?"}]}


@pytest.fixture(autouse=True)
def without_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is unreachable is tried once."""
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)


async def asked(method: str, path: str, body: Any = None, query: str = "", **headers: str) -> Response:
    """The response of a frontend whose Redis is not there."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else jsoncodec.dumps(body)
    frontend = Frontend(Settings(redis_url="redis://127.0.0.1:1/0"))
    return await ask(frontend, method, path, headers=named, body=data, query=query)


def refusal(response: Response) -> tuple[int, str | None, str | None]:
    error = response.value["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if response.status >= 500 else "invalid_request_error")
    return response.status, error["code"], error["param"]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_body", None),
        (b"[]", "invalid_body", None),
        ({"model": "demo"}, "missing_required_parameter", "messages"),
        ({"messages": []}, "missing_required_parameter", "model"),
        (BODY | {"messages": []}, "invalid_value", "messages"),
        (BODY | {"messages": [{"content": "?"}]}, "missing_required_parameter", "messages.0.role"),
        (BODY | {"n": 0}, "invalid_value", "n"),
        (BODY | {"temperature": "hot"}, "invalid_value", "temperature"),
        (BODY | {"stream": "yes"}, "invalid_value", "stream"),
        (BODY | {"tailrace": {"x": 1}}, "invalid_body", "tailrace.x"),
    ],
)
async def test_invalid_body_is_refused_with_openais_code_and_the_parameter(
    body: Any, code: str, param: str | None
) -> None:
    assert refusal(await asked("POST", PATH, body)) == (400, code, param)


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [("x_tailrace_on_disconnect", "stay", "invalid_value"), ("idempotency_key", "", None)],
)
async def test_invalid_header_is_refused_by_name(header: str, value: str, code: str | None) -> None:
    status, given, param = refusal(await asked("POST", PATH, BODY, **{header: value}))
    assert (status, given, (param or "").lower()) == (400, code, header.replace("_", "-"))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("given", ["x", "gen_" + ID[9:], "resp_" + ID[9:], "chatcmpl-", ID + "x", "%F0%9F%92%A7"])
async def test_malformed_id_is_not_found_in_openais_words(method: str, given: str) -> None:
    response = await asked(method, f"{PATH}/{given}")
    assert refusal(response) == (404, None, None)
    assert response.value["error"]["message"] == f"Chat completion with id '{given}' not found."


@pytest.mark.parametrize("query", ["stream=maybe", "stream=true&starting_after=x", "starting_after=1.5"])
async def test_query_of_the_wrong_type_is_refused(query: str) -> None:
    assert refusal(await asked("GET", f"{PATH}/{ID}", query=query))[0] == 400


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("GET", f"{PATH}/{ID}"), ("DELETE", f"{PATH}/{ID}")])
async def test_route_answers_503_with_retry_after_while_redis_is_unreachable(method: str, path: str) -> None:
    response = await asked(method, path, BODY)
    assert refusal(response) == (503, "unavailable", None)
    assert int(response.headers["retry-after"]) >= 1
    assert "x-should-retry" not in response.headers  # nothing was accepted


@pytest.mark.parametrize(("path", "allowed"), [(PATH, {"POST"}), (f"{PATH}/{ID}", {"GET", "HEAD", "DELETE"})])
async def test_method_that_a_path_lacks_is_refused_with_the_allowed_ones(path: str, allowed: set[str]) -> None:
    response = await asked("PUT", path)
    assert refusal(response)[:2] == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


# resumption


async def created(services: Services) -> str:
    record = GenerationRecord(new_generation_id(), OPEN_KEY.owner, "demo", Options(60, 60))
    await services.log.create(record, BODY, new_token())
    return record.id


async def ended(services: Services, error: Failure | None = None) -> GenerationState:
    writer = await LogWriter.start(services.log, await created(services))
    await writer.write_text("Hi")
    await writer.end("failed" if error else "completed", error)
    return await services.log.state(writer.generation_id)


async def resumed(services: Services, state: GenerationState, starting_after: int) -> Any:
    return await chat._resume(services, OPEN_KEY, state, starting_after)


async def test_resumption_begins_after_the_entry_that_has_the_number(services: Services) -> None:
    state = await ended(services)
    entries = [entry async for entry in services.log.read_all(state.record.id)]
    for number in range(entries[-1].id.seq):
        answer = await resumed(services, state, number)
        assert isinstance(answer, StreamedAnswer)
        assert answer._after == max(entry.id for entry in entries if entry.id.seq <= number)


@pytest.mark.parametrize("beyond", [0, 1, 10**30])
@pytest.mark.parametrize("error", [None, failure("upstream_error")])
async def test_resumption_at_the_end_of_an_answer_is_its_end_alone(
    services: Services, beyond: int, error: Failure | None
) -> None:
    state = await ended(services, error)
    answer = await resumed(services, state, state.seq + beyond)
    assert answer.body == (openai_chat.encode_end("failed", error) if error else sse.END)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-tailrace-generation"] == state.record.id


async def test_resumption_at_the_end_of_a_live_answer_waits_for_more(services: Services) -> None:
    writer = await LogWriter.start(services.log, await created(services))
    state = await services.log.state(writer.generation_id)
    answer = await resumed(services, state, state.seq + 5)
    assert answer._after == writer.entries[-1].id
