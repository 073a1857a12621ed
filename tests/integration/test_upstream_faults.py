"""Each fault of an upstream, before and after the first content, on a real worker: it ends as its row has it, in time,
with what was received, and after exactly as many calls as the table allows."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any, Literal, cast

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, scripted
from support.sse import streamed_text
from support.stack import Stack, stack
from support.upstream_faults import FAULTS, IN_THE_LOG_S, KEPT, STREAMS, Fault, Step, Stream
from tailrace_worker.upstream.conditions import CONDITIONS, INTERRUPTIONS, ConditionName, InterruptionName
from tailrace_worker.upstream.dialects import DIALECTS
from tailrace_worker.upstream.retry_after import FIRST_DELAY_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETRIES = 2
MAX_ATTEMPTS = 2
SILENCE_S = 0.6
"""Both timeouts."""
SPARE_S = 1.0
"""An upstream is left so long after a timeout, at most; and whatever else ends a generation takes no longer."""

DELAYS_S = sum(FIRST_DELAY_S * 2**retry for retry in range(RETRIES))
KEY = "sk-upstream-secret"

BEFORE = [fault for fault in FAULTS if fault.before]
AFTER = [fault for fault in FAULTS if fault.after]


class Product:
    """A worker on the scripted upstream, with one dialect."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, stream: Stream) -> None:
        self.stack = running
        self.http = http
        self.api = Api(http, running.url)
        self.stream = stream

    async def calls(self, script_id: str) -> int:
        url = f"{self.stack.upstream.removesuffix('/v1')}/calls"
        async with self.http.get(url, params={"script_id": script_id}) as response:
            return int((await response.json())["started"])

    async def ended(self, *steps: Step, **fields: Any) -> "Ended":
        script_id = uuid.uuid4().hex
        generation_id = await self.api.create_scripted(*steps, script_id=script_id, **fields)
        result = await self.api.wait_for_result(generation_id)
        log = await self.api.read(generation_id)
        assert log.kinds.count("done") == 1
        assert log.kinds[-1] == "done"
        assert KEY not in json.dumps(result["error"])
        return Ended(result, log.kinds, streamed_text(log.events), await self.calls(script_id))


class Ended:
    """The end of a generation. `text`: the text of its log; `ran_s`: seconds from its start to its end."""

    def __init__(self, result: Any, kinds: list[str], text: str, calls: int) -> None:
        self.result = result
        self.kinds = kinds
        self.text = text
        self.calls = calls
        self.status = result["status"]
        self.code = (result["error"] or {}).get("code")
        self.ran_s = result["timings"]["total"] - result["timings"]["queue"]

    @property
    def end(self) -> tuple[str, str | None]:
        return self.status, self.code


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=DIALECTS)
async def product(request: pytest.FixtureRequest) -> AsyncIterator[Product]:
    dialect = request.param
    settings = {} if dialect == "chat" else {"upstream_dialect": dialect}
    async with (
        stack(
            upstream_first_token_timeout_s=str(SILENCE_S), upstream_idle_timeout_s=str(SILENCE_S),
            max_attempts=str(MAX_ATTEMPTS), upstream_retries=str(RETRIES), **settings,
        ) as running,
        aiohttp.ClientSession() as http,
    ):  # fmt: skip
        yield Product(running, http, STREAMS[dialect])


def code_of(fault: Fault) -> str:
    """The code of a failure: of an error object it is the same before and after the first content."""
    return fault.code or CONDITIONS[cast("ConditionName", fault.before)].code


@pytest.mark.parametrize("fault", BEFORE, ids=lambda fault: fault.name)
async def test_fault_before_any_content_ends_as_its_row_has_it(product: Product, fault: Fault) -> None:
    ended = await product.ended(*fault.script(product.stream, after=False))
    if fault.before == "completed":
        assert (ended.end, ended.text, ended.calls) == (("completed", None), fault.text[0], 1)
        return
    row = CONDITIONS[cast("ConditionName", fault.before)]
    assert ended.end == ("failed", code_of(fault))
    assert (ended.text, ended.kinds) == ("", ["created", "started", "done"])
    assert ended.calls == (1 if row.retried == "no" else 1 + RETRIES)
    waited_s = SILENCE_S if fault.before == "silent" else 0 if row.retried == "no" else DELAYS_S
    assert ended.ran_s <= waited_s + SPARE_S


def resolved(fault: Fault, stream: Stream) -> InterruptionName | Literal["completed"]:
    """The row of a fault after some content, in this dialect."""
    if fault.after == "ended":
        return "completed" if stream.done_is_end else "truncated"
    return cast("InterruptionName", fault.after)


@pytest.mark.parametrize("fault", AFTER, ids=lambda fault: fault.name)
async def test_fault_after_some_content_ends_as_its_row_has_it(product: Product, fault: Fault) -> None:
    ended = await product.ended(*fault.script(product.stream, after=True), tailrace={"on_interrupt": "fail"})
    assert ended.calls == 1
    expected = resolved(fault, product.stream)
    if expected == "completed":
        assert (ended.end, ended.text) == (("completed", None), fault.text[1])
        return
    row = INTERRUPTIONS[expected]
    code = row.code if expected != "error" else code_of(fault)
    assert (ended.end, ended.text) == ((row.status, code), KEPT)
    assert "".join(item["text"] for item in ended.result["output"]) == KEPT
    assert ended.ran_s <= IN_THE_LOG_S + (SILENCE_S if expected == "silent" else 0) + SPARE_S


@pytest.mark.parametrize("fault", [each for each in AFTER if each.after in INTERRUPTIONS], ids=lambda fault: fault.name)
async def test_fault_after_some_content_restarts_where_its_row_allows_it(product: Product, fault: Fault) -> None:
    ended = await product.ended(*fault.script(product.stream, after=True), tailrace={"on_interrupt": "restart"})
    row = INTERRUPTIONS[cast("InterruptionName", fault.after)]
    if row.restart is None:
        assert (ended.end, ended.calls) == (("failed", code_of(fault)), 1)
        assert "restarted" not in ended.kinds
    else:
        assert (ended.end, ended.calls) == (("failed", "attempts_exhausted"), MAX_ATTEMPTS)
        assert ended.kinds.count("restarted") == MAX_ATTEMPTS - 1
    assert ended.text == KEPT


# retries


def retry_lines(product: Product, generation_id: str) -> list[str]:
    (worker,) = product.stack.workers
    return [line for line in worker.output.splitlines() if generation_id in line and "is sent again" in line]


async def test_retry_is_a_warning_with_its_cause_number_and_delay(product: Product) -> None:
    ended = await product.ended({"status": 503, "json": {"error": {"message": f"Busy. {KEY}"}}})
    lines = retry_lines(product, ended.result["id"])
    assert len(lines) == RETRIES
    for number, line in enumerate(lines, 1):
        assert "WARNING" in line
        assert f"(retry {number} of {RETRIES}): The upstream failed (status 503): Busy. ***" in line
        assert " s (retry" in line


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms", "date"])
async def test_retry_waits_as_long_as_the_upstream_asks_for(product: Product, status: int, header: str) -> None:
    values = {"retry-after": "1", "retry-after-ms": "1000", "date": formatdate(time.time() + 2, usegmt=True)}
    headers = {"retry-after" if header == "date" else header: values[header]}
    good = {"raw": (product.stream.content("Hi") + product.stream.end()).decode()}
    ended = await product.ended({"statuses": [status], "headers": headers}, good)
    assert (ended.end, ended.text, ended.calls) == (("completed", None), "Hi", 2)
    assert 0.8 <= ended.ran_s <= 2.5 + 2 * SPARE_S  # two requests


async def test_retry_that_would_pass_the_deadline_is_not_awaited(product: Product) -> None:
    ended = await product.ended({"status": 503, "headers": {"retry-after": "30"}}, tailrace={"deadline_s": 10})
    assert (ended.end, ended.calls) == (("failed", "upstream_error"), 1)
    assert ended.ran_s <= SPARE_S


async def test_upstream_that_asks_for_too_long_a_delay_is_not_asked_again(product: Product) -> None:
    ended = await product.ended({"status": 429, "headers": {"retry-after": "600"}})
    assert (ended.end, ended.calls) == (("failed", "upstream_rate_limited"), 1)
    assert ended.result["error"]["retry_after"] == 600
    assert ended.ran_s <= SPARE_S


async def test_upstream_that_forbids_a_retry_is_not_asked_again(product: Product) -> None:
    ended = await product.ended({"status": 500, "headers": {"x-should-retry": "false"}})
    assert (ended.end, ended.calls) == (("failed", "upstream_error"), 1)


@pytest.mark.parametrize(
    ("steps", "answered", "calls"),
    [
        ({"status": 429}, (429, "upstream_rate_limited"), 1),
        ({"status": 503}, (502, "upstream_error"), 1 + RETRIES),
        ({"status": 402}, (429, "insufficient_quota"), 1),
        ({"status": 422}, (422, "upstream_refused"), 1),
        ({"reset": True}, (503, "upstream_unreachable"), 1 + RETRIES),
    ],
)
async def test_client_that_waits_gets_the_status_of_the_row(
    product: Product, steps: Step, answered: tuple[int, str], calls: int
) -> None:
    script_id = uuid.uuid4().hex
    response = await product.api.request(
        "POST", "/v1/chat/completions", json=scripted(steps, script_id=script_id, stream=True)
    )
    assert response.refusal == answered
    assert await product.calls(script_id) == calls
