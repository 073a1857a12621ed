"""The native API as clients meet it: a real server, no worker. Where a log must be told, the test tells it."""

import asyncio
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from support.api import Answer, Api, Teller, body, eventually
from support.sse import Parser, said
from support.stack import Frontend, Stack, stack
from tailrace import keys
from tailrace.log import Log
from tailrace.redis import connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORIGIN = "https://app.example.org"
LEASE_S = 0.5
Stuck = Callable[..., socket.socket]
UNKNOWN = "gen_" + "a" * 26
CALLERS = {"api_keys": "anna:anna-key-1,ben:ben-key-22", "ticket_secret": "0123456789abcdef"}


class Product:
    """One Valkey; a frontend for everybody, and one with keys."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, guarded: Frontend) -> None:
        self.stack = running
        self.http = http
        self.api = Api(http, running.url)
        self.anna = Api(http, guarded.url, "anna-key-1")
        self.ben = Api(http, guarded.url, "ben-key-22")
        self.nobody = Api(http, guarded.url)
        self.log = Log(connection.connect(running.redis.url), 600_000)

    async def teller(self, generation_id: str) -> Teller:
        return await Teller.of(self.log, generation_id)

    async def told(self, *texts: str, api: Api | None = None, **fields: Any) -> str:
        """A generation that said this and has ended."""
        generation_id = await (api or self.api).create(**fields)
        teller = await self.teller(generation_id)
        for text in texts:
            await teller.say(text)
        await teller.end()
        return generation_id

    async def waits(self, job_id: str) -> bool:
        return await self.log.redis.zscore(keys.QUEUE, job_id) is not None

    async def stored(self) -> set[bytes]:
        """Every generation that a key or a waiting job names, and every other key but those of sweepers and arq."""
        redis = self.log.redis
        known = {key async for key in redis.scan_iter(count=1000)}
        jobs = sorted(key for key in known if key.startswith(b"arq:job:"))
        waiting = filter(None, await redis.mget(jobs)) if jobs else ()
        others = {key for key in known if not re.search(b"^arq:|:swept:|gen_", key)}
        return others | set(re.findall(b"gen_[a-z2-7]{26}", b" ".join([*known, *waiting])))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Product]:
    async with stack(workers=0, lease_s=str(LEASE_S), cors_origins=ORIGIN) as running, aiohttp.ClientSession() as http:
        guarded = await running.add_frontend(**CALLERS)
        product = Product(running, http, guarded)
        await eventually(lambda: _is_older_than(product.log, LEASE_S + 1))  # a young server's 404 is not final
        yield product
        await product.log.redis.aclose()


async def _is_older_than(log: Log, seconds: float) -> bool:
    return (await log.server())[1] >= seconds


@asynccontextmanager
async def nothing_enqueued(product: Product) -> AsyncIterator[None]:
    before = await product.stored()
    yield
    assert await product.stored() <= before  # less is well: a frontend sweeps, and ends what has waited too long


# create


async def test_create_answers_202_with_the_generation_and_its_location(product: Product) -> None:
    told = await product.api.post(body(temperature=0.5))
    assert told.status == 202
    assert told.headers["content-type"] == "application/json"
    generation_id = told.value
    assert told.headers["location"] == f"/v1/generations/{generation_id['id']}"
    assert generation_id["object"] == "generation"
    assert generation_id["status"] == "queued"
    assert generation_id["model"] == "demo"
    assert generation_id["request"] == body(temperature=0.5)
    assert generation_id["output"] == []
    assert generation_id["queue_position"] >= 1
    assert generation_id["worker_running"] is False
    assert generation_id["events_url"] == f"/v1/generations/{generation_id['id']}/events"
    assert abs(generation_id["created_at"] - time.time()) < 5


async def test_create_answers_the_log_itself_where_accept_names_event_streams(product: Product) -> None:
    headers = {"Accept": "text/event-stream"}
    url = f"{product.api.url}/v1/generations"
    async with product.http.post(url, json=body(), headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        generation_id = answer.headers["location"].removeprefix("/v1/generations/")
        parser = Parser()
        (created,) = parser.feed(await answer.content.readany())
        assert (created.kind, created.seq, created.value["id"]) == ("created", 0, generation_id)
        teller = await product.teller(generation_id)
        await teller.say("Hello", " there")
        await teller.end()
        events = [event async for data in answer.content.iter_any() for event in parser.feed(data)]
    assert said(events) == "Hello there"
    assert events[-1].kind == "done"


async def test_the_same_key_and_body_is_the_same_generation(product: Product) -> None:
    key = "once-and-again"
    first = await product.api.post(body(), Idempotency_Key=key)
    async with nothing_enqueued(product):
        again = await product.api.post(body(), Idempotency_Key=key)
    assert (first.status, again.status) == (202, 202)
    assert again.value == first.value
    assert again.headers["location"] == first.headers["location"]


async def test_spacing_and_order_of_a_body_do_not_make_it_another(product: Product) -> None:
    first = await product.api.post(
        b'{"model":"m","messages":[{"role":"user","content":"x"}]}', Idempotency_Key="spaces"
    )
    again = await product.api.post(
        b'{ "messages" : [ {"content":"\\u0078","role" : "user"} ],\n"model":"m"}', Idempotency_Key="spaces"
    )
    assert again.value["id"] == first.value["id"]


async def test_the_same_key_with_another_body_is_refused(product: Product) -> None:
    await product.api.post(body(), Idempotency_Key="one-body")
    async with nothing_enqueued(product):
        told = await product.api.post(body(n=2), Idempotency_Key="one-body")
    assert told.refusal == (400, "idempotency_key_reused")


async def test_a_key_asked_for_many_times_at_once_is_one_generation(product: Product) -> None:
    told = await asyncio.gather(*(product.api.post(body(), Idempotency_Key="all-at-once") for _ in range(20)))
    assert {answer.status for answer in told} == {202}
    assert len({answer.value["id"] for answer in told}) == 1


async def test_another_callers_same_key_is_a_generation_of_their_own(product: Product) -> None:
    ids = {(await caller.post(body(), Idempotency_Key="ours")).value["id"] for caller in (product.anna, product.ben)}
    assert len(ids) == 2


async def test_a_key_whose_generation_is_gone_stays_used(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="gone")).value["id"]
    assert (await product.api.delete(generation_id)).status == 200
    told = await product.api.post(body(), Idempotency_Key="gone")
    assert told.status == 410
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_a_repeat_is_told_as_it_is_by_now(product: Product) -> None:
    generation_id = (await product.api.post(body(), Idempotency_Key="ended")).value["id"]
    await product.api.cancel(generation_id)
    told = await product.api.post(body(), Idempotency_Key="ended")
    assert (told.status, told.value["id"], told.value["status"]) == (202, generation_id, "cancelled")


# get


async def test_get_tells_the_output_so_far_and_in_the_end_all_of_it(product: Product) -> None:
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    told = (await product.api.get(generation_id)).value
    assert told["status"] == "running"
    assert told["output"] == [{"item": 0, "type": "text", "text": "Hello"}]
    assert told["queue_position"] is None
    await teller.say(" there")
    await teller.end()
    told = (await product.api.get(generation_id)).value
    assert told["status"] == "completed"
    assert told["output"] == [{"item": 0, "type": "text", "text": "Hello there"}]
    assert told["finish"] == [{"index": 0, "finish_reason": "stop"}]
    assert told["timings"]["total"] >= 0
    assert told["error"] is None


async def test_get_with_wait_answers_when_it_has_ended(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    await eventually(lambda: _figure(product.api, "tailrace_readers", 1))
    assert not waiting.done()
    began = time.monotonic()
    await teller.end()
    told = await waiting
    assert told.value["status"] == "completed"
    assert time.monotonic() - began < 1


async def test_get_with_wait_answers_as_it_is_when_the_time_is_up(product: Product) -> None:
    generation_id = await product.api.create()
    began = time.monotonic()
    told = await product.api.get(generation_id, "?wait=0.3")
    assert 0.3 <= time.monotonic() - began < 2
    assert told.value["status"] == "queued"


async def test_get_with_wait_ends_when_it_is_deleted(product: Product) -> None:
    generation_id = await product.api.create()
    waiting = asyncio.create_task(product.api.get(generation_id, "?wait=20"))
    await eventually(lambda: _figure(product.api, "tailrace_readers", 1))
    await product.api.delete(generation_id)
    told = await waiting  # what runs is cancelled first: it may answer then, or find that it is gone
    assert told.status == 410 or told.value["status"] == "cancelled"


# list


async def test_the_list_is_newest_first_and_goes_on_after_an_id(product: Product) -> None:
    caller = Api(product.http, product.anna.url, "ben-key-22")
    ids = []
    for _ in range(5):
        ids.append(await caller.create())
        await asyncio.sleep(0.002)  # told apart by the millisecond
    newest = ids[::-1]
    first = (await caller.list("?limit=2")).value
    assert first["object"] == "list"
    assert [each["id"] for each in first["data"]] == newest[:2]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (newest[0], newest[1], True)
    second = (await caller.list(f"?limit=3&after={first['last_id']}")).value
    assert [each["id"] for each in second["data"]] == newest[2:5]
    everything = (await caller.list("?limit=100")).value
    assert not everything["has_more"]
    assert [each["id"] for each in everything["data"]][:5] == newest


async def test_the_list_tells_in_short(product: Product) -> None:
    await product.told("Hello")
    (told,) = (await product.api.list("?limit=1")).value["data"]
    assert told.keys() == {"id", "object", "status", "model", "created_at", "events_url"}


async def test_the_list_holds_only_the_callers_own(product: Product) -> None:
    hers, his = await product.anna.create(), await product.ben.create()
    listed = {
        name: [each["id"] for each in (await caller.list()).value["data"]]
        for name, caller in (("anna", product.anna), ("ben", product.ben))
    }
    assert hers in listed["anna"]
    assert hers not in listed["ben"]
    assert his in listed["ben"]


async def test_an_empty_list_is_a_list(product: Product) -> None:
    told = (await product.api.list(f"?after={UNKNOWN}")).value
    assert told == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_what_has_expired_vanishes_from_the_list_and_hides_nothing_behind_it(product: Product) -> None:
    async with _one_more(product, api_keys="eve:eve-key-333", ticket_secret="0123456789abcdef") as node:
        eve = Api(product.http, node.url, "eve-key-333")
        old = [await eve.create() for _ in range(12)]
        await asyncio.sleep(0.002)
        redis = product.log.redis
        brief = [await eve.create(tailrace={"retention_s": 1}) for _ in range(115)]
        for generation_id in brief:
            await redis.delete(
                keys.state(generation_id), keys.log(generation_id)
            )  # as Redis does when their time has come
        told = (await eve.list("?limit=10")).value
        assert len(told["data"]) == 10
        assert told["has_more"]
        assert {each["id"] for each in told["data"]} < set(old)
        rest = (await eve.list(f"?limit=10&after={told['last_id']}")).value
        assert len(rest["data"]) == 2
        assert await redis.zcard(keys.owned("eve")) == 12


# cancel, delete, gone


async def test_cancel_ends_it_also_again_and_also_when_it_has_ended(product: Product) -> None:
    generation_id = await product.api.create()
    for _ in range(2):
        told = await product.api.cancel(generation_id)
        assert (told.status, told.value["status"]) == (200, "cancelled")
    ended = await product.told("Hello")
    told = await product.api.cancel(ended)
    assert (told.status, told.value["status"]) == (200, "completed")
    assert (await product.api.read(ended)).kinds.count("done") == 1


async def test_cancelled_while_it_waits_it_leaves_the_queue(product: Product) -> None:
    generation_id = await product.api.create()
    state = await product.log.state(generation_id)
    assert await product.waits(state.job_id)
    await product.api.cancel(generation_id)
    assert not await product.waits(state.job_id)
    stream = await product.api.read(generation_id)
    assert stream.kinds == ["created", "done"]
    assert stream.events[-1].value["status"] == "cancelled"


async def test_cancelled_by_many_at_once_it_ends_once(product: Product) -> None:
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    told = await asyncio.gather(*(product.api.cancel(generation_id) for _ in range(10)))
    assert {(answer.status, answer.value["status"]) for answer in told} == {(200, "cancelled")}
    stream = await product.api.read(generation_id)
    assert stream.kinds.count("done") == 1
    assert stream.text == "Hello"


async def test_what_is_deleted_is_gone_on_every_route_and_its_readers_are_told(product: Product) -> None:
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    told = await product.api.delete(generation_id)
    assert (told.status, told.value) == (200, {"id": generation_id, "deleted": True})
    await stream.rest()
    assert stream.events[-1].kind in ("gone", "done")
    for answer in (
        await product.api.get(generation_id),
        await product.api.cancel(generation_id),
        await product.api.delete(generation_id),
        await product.api.events(generation_id),
        await product.api.events(generation_id, Last_Event_ID="1-1"),
    ):
        assert answer.refusal == (410, "deleted")
    assert generation_id not in [each["id"] for each in (await product.api.list()).value["data"]]


async def test_after_its_retention_it_is_gone_and_says_expired(product: Product) -> None:
    generation_id = await product.told("Hello", tailrace={"retention_s": 1})
    assert (await product.api.get(generation_id)).status == 200
    gone = await eventually(lambda: _gone(product.api, generation_id))
    assert gone.refusal == (410, "expired")
    assert (await product.api.events(generation_id)).refusal == (410, "expired")
    assert generation_id not in [each["id"] for each in (await product.api.list("?limit=100")).value["data"]]


async def _gone(api: Api, generation_id: str) -> Answer | None:
    told = await api.get(generation_id)
    return told if told.status == 410 else None


async def test_what_never_was_is_not_found_on_any_route(product: Product) -> None:
    for generation_id in (UNKNOWN, "gen_", "x", "%2e%2e", "gen_%61" + "a" * 25, "%00", "%0d%0a", "a" * 500, "*", "~"):
        path = f"/v1/generations/{generation_id}"
        for method, where in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/events")):
            told = await product.api.ask(method, path + where, headers={"Accept": "text/event-stream"})
            assert told.refusal == (404, "not_found")


# events


async def test_a_finished_log_is_told_whole_with_the_headers_that_proxies_need(product: Product) -> None:
    generation_id = await product.told("Hello", " there", "\u2028 €\n\r\n: x\ndata: y")
    told = await product.api.events(generation_id)
    assert told.status == 200
    assert told.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert told.headers["cache-control"] == "no-cache, no-transform"
    assert told.headers["x-accel-buffering"] == "no"
    assert told.headers["x-content-type-options"] == "nosniff"
    assert "content-encoding" not in told.headers
    events = Parser().feed(told.body)
    assert [event.kind for event in events] == ["created", "started", "item_opened", "text", "done"]
    assert said(events) == "Hello there\u2028 €\n\r\n: x\ndata: y"
    assert "€".encode() in told.body
    assert b"\r" not in told.body
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert events[0].seq == 0
    assert events[-1].value["status"] == "completed"
    assert "output" not in events[-1].value


async def test_every_frame_is_id_event_and_data_in_this_order(product: Product) -> None:
    told = await product.api.events(await product.told("Hello"))
    frames = told.body.decode().split("\n\n")
    assert frames.pop() == ""
    for frame in frames:
        names = [line.partition(": ")[0] for line in frame.split("\n")]
        assert [name for name in names if name != "retry"] == ["id", "event", "data"]
        assert ("retry" in names) == ("event: created" in frame)


async def test_a_live_log_is_told_as_it_grows(product: Product) -> None:
    generation_id = await product.api.create()
    stream = await product.api.stream(generation_id)
    await stream.until("created")
    teller = await product.teller(generation_id)
    await stream.until("item_opened")
    for word in ("Hello", " there", "!"):
        await teller.say(word)
        await stream.until_said(word)
    await teller.end()
    await stream.rest()
    assert stream.kinds == ["created", "started", "item_opened", "text", "text", "text", "done"]
    assert [event.seq for event in stream.events] == [0, 1, 3, 4, 5, 6, stream.events[-1].seq]


async def test_from_every_cursor_exactly_the_rest_is_told(product: Product) -> None:
    generation_id = await product.api.create()
    whole = await product.api.stream(generation_id)
    teller = await product.teller(generation_id)
    for word in ("a", "b", "c", "d"):
        await teller.say(word)
        await whole.until_said(word)
    await teller.end()
    await whole.rest()
    for position, event in enumerate(whole.events[:-1]):
        for query, headers in (("", {"Last_Event_ID": str(event.id)}), (f"?last_event_id={event.id}", {})):
            told = await product.api.events(generation_id, query, **headers)
            rest = Parser().feed(told.body)
            assert said(whole.events[: position + 1]) + said(rest) == "abcd"
            assert all(each.seq > event.seq for each in rest)
            assert rest[-1].id == whole.events[-1].id


async def test_the_header_comes_before_the_query_and_an_empty_cursor_is_none(product: Product) -> None:
    generation_id = await product.told("Hello")
    whole = await product.api.events(generation_id)
    last = Parser().feed(whole.body)[-1].id
    assert (await product.api.events(generation_id, f"?last_event_id={last}", Last_Event_ID="")).status == 204
    assert (await product.api.events(generation_id, "?last_event_id=nonsense", Last_Event_ID=str(last))).status == 204
    for query, headers in (("", {"Last_Event_ID": ""}), ("?last_event_id=", {})):
        assert (await product.api.events(generation_id, query, **headers)).body == whole.body


async def test_at_the_end_of_a_log_there_is_nothing_more_ever(product: Product) -> None:
    generation_id = await product.told("Hello")
    last = Parser().feed((await product.api.events(generation_id)).body)[-1].id
    for accept in ("text/event-stream", "application/x-ndjson", "text/plain", "*/*"):
        told = await product.api.events(generation_id, Last_Event_ID=str(last), Accept=accept)
        assert (told.status, told.body) == (204, b"")


async def test_at_the_top_of_a_live_log_the_stream_waits_for_more(product: Product) -> None:
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    last_seq = f"{teller.epoch}-{teller.output.last_seq}"
    stream = await product.api.stream(generation_id, last_seq)
    await teller.say(" there")
    await teller.end()
    await stream.rest()
    assert stream.text == " there"


async def test_a_cursor_inside_an_entry_begins_anew_and_says_so_without_an_id(product: Product) -> None:
    generation_id = await product.told("Hello")
    opened = next(e for e in Parser().feed((await product.api.events(generation_id)).body) if e.kind == "item_opened")
    assert opened.id is not None
    epoch, n = opened.id.split("-")
    stream = await product.api.read(generation_id, f"{epoch}-{int(n) - 1}")
    assert (stream.events[0].id, stream.events[0].kind, stream.events[0].data) == (
        None,
        "restarted",
        '{"reason":"log_changed"}',
    )
    assert stream.events[1].seq == 0
    assert stream.text == "Hello"


@pytest.mark.parametrize("live", [True, False])
async def test_a_cursor_ahead_of_the_log_waits_a_lease_and_then_begins_anew(product: Product, live: bool) -> None:
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    if not live:
        await teller.end()
    began = time.monotonic()
    stream = await product.api.stream(generation_id, f"{teller.epoch}-{teller.output.last_seq + 50}")
    first = await stream.until("restarted")
    assert time.monotonic() - began >= LEASE_S
    assert first.id is None
    assert stream.events[0] is first
    await stream.until_said("Hello")
    assert stream.events[1].seq == 0
    if live:
        await teller.end()
    await stream.rest()
    assert stream.text == "Hello"


@pytest.mark.parametrize("epoch", ["0", "1", "999999999999999"])
async def test_a_cursor_of_an_attempt_that_never_was_begins_anew(product: Product, epoch: str) -> None:
    generation_id = await product.told("Hello", " there")
    stream = await product.api.read(generation_id, f"{epoch}-4")
    assert (stream.events[0].id, stream.events[0].kind) == (None, "restarted")
    assert stream.text == "Hello there"


async def test_ndjson_is_a_line_an_event(product: Product) -> None:
    generation_id = await product.told("Hello\u2028", " there")
    told = await product.api.events(generation_id, Accept="application/x-ndjson")
    assert told.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    lines = [json.loads(line) for line in told.body.decode().splitlines()]
    events = Parser().feed((await product.api.events(generation_id)).body)
    assert [(line["id"], line["event"], line["data"]) for line in lines] == [(e.id, e.kind, e.value) for e in events]


async def test_text_is_the_spoken_text(product: Product) -> None:
    generation_id = await product.told("Hello", " there €")
    told = await product.api.events(generation_id, Accept="text/plain")
    assert told.headers["content-type"] == "text/plain; charset=utf-8"
    assert told.body.decode() == "Hello there €"


async def test_text_of_what_was_cancelled_never_ends_cleanly(product: Product) -> None:
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    await teller.say("Hello")
    await product.api.cancel(generation_id)
    with pytest.raises(aiohttp.ClientPayloadError):
        await product.api.events(generation_id, Accept="text/plain")


async def test_a_silent_stream_is_kept_alive_by_comments(product: Product) -> None:
    async with _one_more(product, keepalive_s="0.3") as node:
        generation_id = await product.api.create()
        stream = await Api(product.http, node.url).stream(generation_id)
        await stream.until_comment(2)
        assert set(stream.parser.comments) == {""}
        assert stream.kinds == ["created"]
        stream.cut()


async def test_on_another_frontend_the_log_goes_on_with_the_same_bytes(product: Product) -> None:
    async with _one_more(product) as node:
        generation_id = await product.told("Hello", " there")
        other = Api(product.http, node.url)
        assert (await other.events(generation_id)).body == (await product.api.events(generation_id)).body


# who may


async def test_without_a_key_nothing_is_told(product: Product) -> None:
    generation_id = await product.anna.create()
    for caller in (product.nobody, Api(product.http, product.nobody.url, "wrong-key")):
        for told in (
            await caller.post(body()),
            await caller.list(),
            await caller.get(generation_id),
            await caller.cancel(generation_id),
            await caller.delete(generation_id),
            await caller.events(generation_id),
            await caller.get(UNKNOWN),
            await caller.events(UNKNOWN),
        ):
            assert told.refusal == (401, "invalid_api_key")
            assert told.headers["www-authenticate"] == "Bearer"
    assert (await product.anna.get(generation_id)).value["status"] == "queued"


async def test_somebody_elses_is_told_exactly_as_what_never_was(product: Product) -> None:
    generation_id = await product.anna.create()
    deleted = await product.anna.create()
    await product.anna.delete(deleted)
    for ask in (Api.get, Api.cancel, Api.delete, Api.events):
        unknown = await ask(product.ben, UNKNOWN)
        for hers in (generation_id, deleted):
            told = await ask(product.ben, hers)
            assert told.refusal == (404, "not_found")
            assert told.body == unknown.body
            assert _names(told) == _names(unknown)
    assert (await product.anna.get(generation_id)).value["status"] == "queued"
    assert (await product.ben.list(f"?after={generation_id}")).value["data"] == []


def _names(told: Answer) -> set[str]:
    return {name.lower() for name in told.headers}


async def test_a_ticket_reads_its_stream_and_nothing_else(product: Product) -> None:
    generation_id = await product.told("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    path, _, ticket = url.partition("?")
    assert path == f"/v1/generations/{generation_id}/events"
    told = await product.nobody.ask("GET", url, headers={"Accept": "text/event-stream"})
    assert said(Parser().feed(told.body)) == "Hello"
    last = Parser().feed(told.body)[-1].id
    assert (await product.nobody.ask("GET", f"{url}&last_event_id={last}")).status == 204
    another = await product.anna.create()
    for method, elsewhere in (
        ("GET", f"/v1/generations/{another}/events"),
        ("GET", f"/v1/generations/{UNKNOWN}/events"),
        ("GET", f"/v1/generations/{generation_id}"),
        ("DELETE", f"/v1/generations/{generation_id}"),
        ("POST", f"/v1/generations/{generation_id}/cancel"),
        ("GET", "/v1/generations"),
        ("POST", "/v1/generations"),
    ):
        assert (await product.nobody.ask(method, f"{elsewhere}?{ticket}")).refusal == (401, "invalid_api_key")


async def test_a_ticket_is_good_on_every_node(product: Product) -> None:
    generation_id = await product.told("Hello", api=product.anna)
    url = (await product.anna.get(generation_id)).value["events_url"]
    async with _one_more(product, **CALLERS) as node:
        assert (await Api(product.http, node.url).ask("GET", url)).status == 200


async def test_a_caller_whose_key_is_withdrawn_is_cut_while_reading(product: Product) -> None:
    file = product.stack.root / "keys"
    file.write_text("anna:anna-key-1\n")
    async with _one_more(product, api_keys=f"@{file}", ticket_secret="0123456789abcdef", keepalive_s="0.3") as node:
        anna = Api(product.http, node.url, "anna-key-1")
        generation_id = await anna.create()
        stream = await anna.stream(generation_id)
        await stream.until("created")
        file.write_text("ben:ben-key-22\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.rest()
        stream.cut()
        assert (await anna.get(generation_id)).refusal == (401, "invalid_api_key")
        assert (await Api(product.http, node.url, "ben-key-22").get(generation_id)).refusal == (404, "not_found")


async def test_open_mode_answers_no_other_host_and_no_other_sites_page(product: Product) -> None:
    generation_id = await product.api.create()
    for headers, refusal in (
        ({"Host": "example.org"}, (421, "host_refused")),
        ({"Origin": "https://evil.example.org"}, (403, "origin_refused")),
        ({"Origin": "null"}, (403, "origin_refused")),
        ({"Origin": "http://["}, (403, "origin_refused")),
    ):
        for method, path in (
            ("POST", "/v1/generations"),
            ("GET", "/v1/generations"),
            ("GET", f"/v1/generations/{generation_id}"),
            ("GET", f"/v1/generations/{generation_id}/events"),
            ("POST", f"/v1/generations/{generation_id}/cancel"),
            ("DELETE", f"/v1/generations/{generation_id}"),
        ):
            assert (
                await product.api.ask(method, path, headers=headers, data=b"{}" if method == "POST" else None)
            ).refusal == refusal


async def test_pages_of_known_origins_may_call_every_route(product: Product) -> None:
    generation_id = await product.told("Hello")
    origin = {"Origin": ORIGIN}
    for told in (
        await product.api.ask("POST", "/v1/generations", json=body(), headers=origin),
        await product.api.ask("GET", f"/v1/generations/{generation_id}", headers=origin),
        await product.api.ask("GET", f"/v1/generations/{UNKNOWN}", headers=origin),
        await product.api.ask("GET", f"/v1/generations/{generation_id}/events", headers=origin),
        await product.api.ask("GET", f"/v1/generations/{UNKNOWN}/events", headers=origin),
        await product.api.ask("GET", f"/v1/generations/{generation_id}/events?last_event_id=x", headers=origin),
    ):
        assert told.headers["access-control-allow-origin"] == ORIGIN
        assert "location" in told.headers["access-control-expose-headers"].lower()
        assert "origin" in told.headers["vary"].lower()


async def test_a_preflight_is_answered_for_known_origins_only(product: Product) -> None:
    for path, method in (("", "POST"), (f"/{UNKNOWN}/events", "GET"), (f"/{UNKNOWN}", "DELETE")):
        asked = {
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
        }
        told = await product.api.ask("OPTIONS", f"/v1/generations{path}", headers=asked | {"Origin": ORIGIN})
        assert told.status == 200
        assert told.headers["access-control-allow-origin"] == ORIGIN
        assert method in told.headers["access-control-allow-methods"]
        for name in ("authorization", "content-type", "idempotency-key", "last-event-id"):
            assert name in told.headers["access-control-allow-headers"].lower()
        other = {"Origin": "https://evil.example.org"}
        told = await product.api.ask("OPTIONS", f"/v1/generations{path}", headers=asked | other)
        assert told.status == 400
        assert "access-control-allow-origin" not in told.headers


# operations, documentation, errors


async def test_the_documentation_lists_every_route_and_needs_no_other_server(product: Product) -> None:
    paths = (await product.api.ask("GET", "/openapi.json")).value["paths"]
    assert {(path, method) for path, methods in paths.items() for method in methods} >= {
        ("/v1/generations", "post"),
        ("/v1/generations", "get"),
        ("/v1/generations/{generation_id}", "get"),
        ("/v1/generations/{generation_id}", "delete"),
        ("/v1/generations/{generation_id}/cancel", "post"),
        ("/v1/generations/{generation_id}/events", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
        ("/metrics", "get"),
    }
    docs = await product.api.ask("GET", "/docs")
    assert docs.status == 200
    assert b"https://" not in docs.body


async def test_the_page_comes_with_headers_that_keep_it_safe(product: Product) -> None:
    told = await product.api.ask("GET", "/")
    assert told.status == 200
    assert told.headers["content-security-policy"].startswith("default-src 'self'")
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.headers["referrer-policy"] == "no-referrer"
    assert (await product.api.ask("GET", "/tailrace.js")).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/generations/",
        "/v1//generations",
        "/V1/generations",
        f"/v1/generations/{UNKNOWN}/",
        f"/v1/generations/{UNKNOWN}/events/x",
        f"/v1/generations/{UNKNOWN}/nothing",
        "/%2e%2e/etc/passwd",
        "/page/page.js",
    ],
)
async def test_what_is_no_route_is_not_found(product: Product, path: str) -> None:
    assert (await product.api.ask("GET", path)).refusal == (404, "not_found")


async def test_a_method_that_is_not_there_is_refused_with_all_that_are(product: Product) -> None:
    for path, allowed in (
        ("/v1/generations", {"GET", "POST"}),
        (f"/v1/generations/{UNKNOWN}", {"GET", "DELETE"}),
        (f"/v1/generations/{UNKNOWN}/cancel", {"POST"}),
        (f"/v1/generations/{UNKNOWN}/events", {"GET"}),
        ("/healthz", {"GET"}),
        ("/metrics", {"GET"}),
    ):
        told = await product.api.ask("PATCH", path)
        assert told.refusal == (405, "method_not_allowed")
        assert set(told.headers["allow"].split(", ")) == allowed


async def test_it_is_healthy_and_ready(product: Product) -> None:
    assert (await product.api.ask("GET", "/healthz")).value == {"status": "ok"}
    told = await product.api.ask("GET", "/readyz")
    assert (told.status, told.value["status"]) == (200, "ok")


async def test_with_the_wrong_eviction_policy_it_is_not_ready_and_names_it(product: Product) -> None:
    redis = product.log.redis
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        told = await product.api.ask("GET", "/readyz")
        assert told.refusal == (503, "unavailable")
        assert "maxmemory-policy is allkeys-lru" in told.error["message"]
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    assert (await product.api.ask("GET", "/readyz")).status == 200


async def test_without_persistence_it_is_ready_and_warns(product: Product) -> None:
    redis = product.log.redis
    await redis.config_set("appendonly", "no")
    try:
        told = await product.api.ask("GET", "/readyz")
        assert told.status == 200
        assert "appendonly" in str(told.value["warnings"])
    finally:
        await redis.config_set("appendonly", "yes")


async def _figures(api: Api) -> dict[str, float]:
    told = (await api.ask("GET", "/metrics")).body.decode()
    return {each.name: each.value for family in text_string_to_metric_families(told) for each in family.samples}


async def _figure(api: Api, name: str, value: float) -> bool:
    return (await _figures(api))[name] == value


async def test_the_metrics_count_what_happens(product: Product) -> None:
    async with _one_more(product) as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        figures = await _figures(api)
        assert figures["tailrace_generations_created_total"] == 1
        assert figures["tailrace_streams_opened_total"] == 1
        assert (figures["tailrace_readers"], figures["tailrace_tails"]) == (1, 1)
        assert figures["tailrace_subscriber_connected"] == 1
        assert figures["tailrace_queued"] >= 1
        assert figures["tailrace_workers"] == 0
        stream.cut()
        await eventually(lambda: _figure(api, "tailrace_readers", 0))
        assert await _figure(api, "tailrace_tails", 0)
        await api.cancel(generation_id)
        await api.read(generation_id, stream.parser.last_id)
        assert await _figure(api, "tailrace_streams_resumed_total", 1)


async def test_where_the_queue_is_full_more_is_refused_until_there_is_room() -> None:
    async with stack(workers=0, max_queued="1") as running, aiohttp.ClientSession() as http:
        product = Product(running, http, running.frontends[0])
        generation_id = await product.api.create()
        async with nothing_enqueued(product):
            told = await product.api.post(body())
        assert told.refusal == (429, "rate_limit_exceeded")
        assert int(told.headers["retry-after"]) >= 1
        await product.api.cancel(generation_id)
        assert (await product.api.post(body())).status == 202
        await product.log.redis.aclose()


async def test_beyond_its_readers_a_frontend_sends_streams_elsewhere(product: Product) -> None:
    async with _one_more(product, max_readers="1") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        told = await api.events(generation_id)
        assert told.status == 200
        assert told.body.startswith(b"retry: ")
        assert Parser().feed(told.body) == []
        told = await api.events(generation_id, Accept="application/x-ndjson")
        assert told.refusal == (429, "rate_limit_exceeded")
        assert int(told.headers["retry-after"]) >= 1
        stream.cut()
        await eventually(lambda: _figure(api, "tailrace_readers", 0))
        await api.cancel(generation_id)
        assert (await api.read(generation_id)).kinds == ["created", "done"]


@pytest.mark.parametrize("limit", ["max_readers", "max_readers_per_caller"])
async def test_whoever_follows_a_log_counts_as_a_reader_and_is_refused_as_one(product: Product, limit: str) -> None:
    async with _one_more(product, **{limit: "1"}) as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        async with nothing_enqueued(product):
            told = await api.post(body(), Accept="text/event-stream")
        assert told.refusal == (429, "rate_limit_exceeded")
        assert (await api.get(generation_id, "?wait=20")).refusal == (429, "rate_limit_exceeded")
        assert (await api.get(generation_id)).status == 200
        stream.cut()
        await eventually(lambda: _figure(api, "tailrace_readers", 0))
        waiting = asyncio.create_task(api.get(generation_id, "?wait=20"))
        await eventually(lambda: _figure(api, "tailrace_readers", 1))
        assert (await api.events(generation_id, Accept="application/x-ndjson")).status == 429
        await api.cancel(generation_id)
        assert (await waiting).value["status"] == "cancelled"
        assert (await api.get(generation_id, "?wait=20")).status == 200


async def test_of_a_burst_no_more_are_served_than_may_be(product: Product) -> None:
    async with _one_more(product, max_readers="3") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        url = f"{api.url}/v1/generations/{generation_id}/events"
        asked = [product.http.get(url, headers={"Accept": "application/x-ndjson"}) for _ in range(20)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 17
        assert await _figure(api, "tailrace_streams_opened_total", 3)
        for answer in answers:
            answer.close()
        await api.cancel(generation_id)


async def test_of_a_burst_of_new_streams_those_that_find_no_place_learn_where_their_log_is(product: Product) -> None:
    async with _one_more(product, max_readers="1") as node:
        api = Api(product.http, node.url)
        url, accept = f"{api.url}/v1/generations", {"Accept": "text/event-stream"}
        answers = await asyncio.gather(*(product.http.post(url, json=body(), headers=accept) for _ in range(10)))
        assert await _figure(api, "tailrace_streams_opened_total", 1)
        deferred = [answer for answer in answers if answer.headers.get("content-length") and answer.status == 200]
        refused = [answer for answer in answers if answer.status == 429]
        assert len(deferred) + len(refused) == 9
        for answer in deferred:
            assert (await answer.read()).startswith(b"retry: ")
            assert (await api.ask("GET", answer.headers["location"])).status == 200
        for answer in answers:
            answer.close()


# bad input


BAD_FIELDS: list[tuple[str, Any]] = [
    ("model", None), ("model", 1), ("model", ""), ("model", []), ("messages", None), ("messages", []),
    ("messages", "x"),
    ("messages", [1]), ("messages", [{}]), ("messages", [{"role": 1}]), ("messages", [{"role": "user", "content": 1}]),
    ("temperature", "hot"), ("top_p", []), ("n", 0), ("n", 1.5), ("n", "1"), ("max_tokens", 0),
    ("max_completion_tokens", "x"),
    ("presence_penalty", "x"), ("frequency_penalty", {}), ("logprobs", 1), ("top_logprobs", "x"), ("logit_bias", []),
    ("seed", "x"), ("stop", 1), ("stream", "yes"), ("stream_options", 1), ("tools", {}), ("tools", [1]),
    ("tool_choice", 1),
    ("parallel_tool_calls", 1), ("response_format", "x"), ("reasoning_effort", 1), ("metadata", 1), ("user", 1),
    ("tailrace", 1), ("tailrace", {"unknown": 1}), ("tailrace", {"on_interrupt": "continue"}),
    ("tailrace", {"on_disconnect": 1}),
    ("tailrace", {"deadline_s": 0}), ("tailrace", {"deadline_s": 10**9}), ("tailrace", {"retention_s": "1"}),
]  # fmt: skip


async def test_a_field_of_the_wrong_type_is_refused_by_name_and_nothing_is_enqueued(product: Product) -> None:
    async with nothing_enqueued(product):
        for field, value in BAD_FIELDS:
            told = await product.api.post(body(**{field: value}))
            assert told.refusal == (400, "invalid_body"), field
            assert (told.error["param"] or "").split(".")[0] == field


def nested(depth: int) -> bytes:
    return b'{"model":"demo","messages":[{"role":"user"}],"x":' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\x00", b"\xff", b"NaN",
    b'{"model":"demo","messages":[{"role":"user"}],"x":NaN}',
    b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"demo","messages":[{"role":"user"}],"x":1e999}',
    b'{"model":"demo","messages":[{"role":"user","content":"\xff"}]}', nested(100), nested(500), nested(950),
    nested(980),
    nested(1500), nested(1_000_000), b"model=demo&messages=x", json.dumps(body()).encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("sent", BAD_BODIES, ids=lambda sent: repr(sent[:24]))
async def test_what_is_no_body_of_ours_is_refused_and_nothing_is_enqueued(product: Product, sent: bytes) -> None:
    async with nothing_enqueued(product):
        assert (await product.api.post(sent)).refusal == (400, "invalid_body")


@pytest.mark.parametrize(
    "sent",
    [
        nested(99),
        b'{"model":"demo","messages":[{"role":"user","content":"a\\u0000b"}],"\\u0000":"\\u0000"}',
        b'{"model":"x","messages":[{"role":"user"}],"model":"demo"}',
        b'{"model":"demo","messages":[{"role":"user"}],"seed":123456789012345678901234567890,"x":-1e308}',
        json.dumps(body(x="\U0001f4a7\u2028\x85", y={"": [None]})).encode(),
    ],
    ids=lambda sent: repr(sent[:24]),
)
async def test_what_is_odd_and_allowed_is_taken_as_it_is(product: Product, sent: bytes) -> None:
    told = await product.api.post(sent)
    assert told.status == 202
    again = await product.api.get(told.value["id"])
    assert again.value["request"] == json.loads(sent)
    assert (await product.api.cancel(told.value["id"])).value["status"] == "cancelled"


async def test_a_body_of_ten_megabytes_is_refused_with_a_length_and_without(product: Product) -> None:
    large = json.dumps(body(x="y" * 10_000_000)).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    async with nothing_enqueued(product):
        assert (await product.api.post(large)).refusal == (413, "request_too_large")
        told = await product.api.ask("POST", "/v1/generations", data=in_pieces())
        assert told.refusal == (413, "request_too_large")


async def test_a_body_just_below_the_limit_is_taken(product: Product) -> None:
    generation_id = await product.api.create(x="y" * 8_000_000)
    assert len((await product.api.get(generation_id)).value["request"]["x"]) == 8_000_000
    await product.api.delete(generation_id)


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(product: Product) -> None:
    async with _one_more(product) as node:
        async with nothing_enqueued(product):
            _, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await eventually(lambda: _figure(Api(product.http, node.url), "tailrace_readers", 0))
            writer.close()
            await writer.wait_closed()
            assert (await Api(product.http, node.url).list("?limit=1")).status == 200
        assert "Traceback" not in node.output


CURSORS = [
    "x", "1", "-", "1-", "-1", "1-2-3", "1.5-2", " 1-2", "1-2 ", "0x1-2", "+1-2", "1--2", "9" * 16 + "-1",
    "1-" + "9" * 16,
    "9" * 5000 + "-1", "\u0661-\u0662", "$", "*", "(1-2", "1-*", "+", "null", "undefined", "1-2,3-4", "\x00",
    "1-2\x00", "%00",
    "1-2\r\n", "1-2\r\nX: y", "é", "💧", "' or 1=1",
]  # fmt: skip


async def test_a_cursor_that_is_none_is_refused(product: Product) -> None:
    generation_id = await product.told("Hello")
    async with nothing_enqueued(product):
        for cursor in CURSORS:
            query = f"?last_event_id={_quoted(cursor)}"
            assert (await product.api.events(generation_id, query)).refusal == (400, "invalid_cursor"), cursor
            if cursor.isascii() and cursor.isprintable() and cursor == cursor.strip():
                told = await product.api.events(generation_id, Last_Event_ID=cursor)
                assert told.refusal == (400, "invalid_cursor"), cursor


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


async def _raw(frontend: Frontend, sent: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer to bytes as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        record = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in record.split(b"\r\n") if line.lower().startswith(b"content-length:")),
            0,
        )
        told = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return record, told


@pytest.mark.parametrize(
    "lines",
    [
        b"Last-Event-ID: 1-\x002",
        b"Last-Event-ID: 1-2\x00",
        b"Last-Event-ID: 1-2\rX: y",
        b"Last-Event-ID: \xff\xfe",
        b"Last-Event-ID: 1-2\r\nLast-Event-ID: 1-2",
        b"Last-Event-ID: 1-2\r\nlast-event-id: 3-4",
        b"Last-Event-ID: 1-2,1-2",
        b"Last-Event-ID: " + b"9" * 20_000 + b"-1",
    ],
    ids=lambda lines: repr(lines[:32]),
)
async def test_a_header_that_is_no_cursor_is_refused_whatever_its_bytes(product: Product, lines: bytes) -> None:
    generation_id = await product.told("Hello")
    path = f"/v1/generations/{generation_id}/events".encode()
    record, told = await _raw(
        product.stack.frontends[0], b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n"
    )
    assert record.startswith(b"HTTP/1.1 400 ")
    assert json.loads(told)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v1/generations/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/%ff%fe/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations/%c3%28 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[/v1/generations HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/generations HTTP/1.1\r\nHost: [\r\n\r\n",
        b"GET /v1/generations HTTP/1.1\r\nHost: localhost\r\nOrigin: http://]\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:60]),
)
async def test_whatever_comes_over_the_line_is_a_clear_4xx(product: Product, sent: bytes) -> None:
    async with nothing_enqueued(product):
        record, told = await _raw(product.stack.frontends[0], sent)
    assert record.startswith(b"HTTP/1.1 4")
    assert json.loads(told)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "query",
    ["?", "?&&", "?=", "?limit", "?unknown=1", "?limit=5&limit=7", "?%zz", "?after", "?limit=5&x=%ff"],
)
async def test_junk_in_a_query_does_no_harm(product: Product, query: str) -> None:
    assert (await product.api.list(query)).status in (200, 400, 404)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=-1", "limit"),
        ("?limit=1e9", "limit"),
        ("?limit=%00", "limit"),
        ("?limit=101", "limit"),
    ],
)
async def test_a_limit_out_of_range_is_refused_by_name(product: Product, query: str, param: str) -> None:
    told = await product.api.list(query)
    assert told.status == 400
    assert told.error["param"] == param


@pytest.mark.parametrize("after", ["x", "%00", "gen_", "gen_%61", "'"])
async def test_a_place_in_the_list_that_is_no_id_is_not_found(product: Product, after: str) -> None:
    assert (await product.api.list(f"?after={after}")).refusal == (404, "not_found")


TEXT = st.text('a\0ä€💧\u2028"\\', max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*{field for field, _ in BAD_FIELDS}, "x", "script"])
BODIES = st.dictionaries(FIELDS, JSON, max_size=4).map(lambda fields: json.dumps(body(**fields)).encode())
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(sent=BODIES | st.binary(max_size=60) | BODIES.map(lambda sent: sent[:-3]))
async def test_any_body_is_taken_or_refused_and_never_an_error_of_ours(product: Product, sent: bytes) -> None:
    before = await product.stored()
    told = await product.api.post(sent)
    if told.status == 202:
        assert (await product.api.delete(told.value["id"])).status == 200
    else:
        assert told.refusal == (400, "invalid_body")
        assert await product.stored() <= before


@FUZZ
@given(
    cursor=st.text(max_size=20)
    | st.from_regex(r"[0-9]{1,17}-[0-9]{1,17}", fullmatch=True)
    | st.text("0123456789- ,", max_size=8)
)
async def test_any_cursor_is_understood_or_refused_and_never_an_error_of_ours(product: Product, cursor: str) -> None:
    generation_id = await _kept(product)
    query = f"?last_event_id={_quoted(cursor)}"
    path = f"/v1/generations/{generation_id}/events{query}"
    async with product.http.get(product.api.url + path) as told:
        assert told.status in (200, 204, 400)
        if told.status == 400:
            assert (await told.json())["error"]["code"] == "invalid_cursor"


async def _kept(product: Product) -> str:
    """One finished generation for all examples."""
    if not hasattr(product, "kept"):
        product.kept = await product.told("Hello")  # type: ignore[attr-defined]
    return str(product.kept)  # type: ignore[attr-defined]


# processes that stop, and a Redis that is away


@asynccontextmanager
async def _one_more(product: Product, **settings: str) -> AsyncIterator[Frontend]:
    """Another frontend of the same product, with settings of its own."""
    node = await product.stack.add_frontend(**settings)
    try:
        yield node
    finally:
        await node.stop()


async def test_a_frontend_that_is_told_to_stop_sends_its_streams_elsewhere_and_is_gone_in_time(
    product: Product,
) -> None:
    async with _one_more(product, drain_s="1") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        teller = await product.teller(generation_id)
        await teller.say("Hello")
        streams = [await api.stream(generation_id) for _ in range(8)]
        for stream in streams:
            await stream.until_said("Hello")
        waiting = asyncio.create_task(api.get(generation_id, "?wait=30"))
        await eventually(lambda: _figure(api, "tailrace_readers", 9))
        began = time.monotonic()
        node.send(signal.SIGTERM)
        await asyncio.gather(*(stream.rest() for stream in streams))
        for stream in streams:
            assert 1000 <= (stream.parser.retry or 0) <= 3000
            assert stream.parser.comments == ["this server is stopping"]
            assert stream.parser.last_id.split("-")[0] == str(teller.epoch)
        assert (await waiting).value["status"] == "running"
        assert await node.wait() == 0
        assert time.monotonic() - began < 2.5
        assert "Traceback" not in node.output
    await teller.say(" there")
    await teller.end()
    for stream in streams:
        rest = await product.api.read(generation_id, stream.parser.last_id)
        assert stream.text + rest.text == "Hello there"


async def test_while_a_frontend_stops_it_is_not_ready_and_opens_nothing_new(product: Product, stuck: Stuck) -> None:
    async with _one_more(product, drain_s="3") as node:
        api = Api(product.http, node.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        path = f"/v1/generations/{await _long(product, 160)}/events"
        stuck(node, path)  # who never reads keeps it waiting for the grace period
        await eventually(lambda: _figure(api, "tailrace_readers", 2))
        began = time.monotonic()
        node.send(signal.SIGTERM)
        told = await eventually(lambda: _not_ready(api))
        assert told.refusal == (503, "unavailable")
        assert "stopping" in told.error["message"]
        told = await api.events(generation_id)
        assert (told.status, told.body[:7]) == (200, b"retry: ")
        assert (await api.events(generation_id, Accept="application/x-ndjson")).refusal == (503, "unavailable")
        told = await api.ask("POST", "/v1/generations", json=body(), headers={"Accept": "text/event-stream"})
        assert told.status == 200
        assert b": this server is stopping\n" in told.body
        assert told.headers["location"].startswith("/v1/generations/gen_")
        await stream.rest()
        await node.wait()
        assert 2.5 < time.monotonic() - began < 4.5  # of two readers one never took its leave


async def _not_ready(api: Api) -> Answer | None:
    told = await api.ask("GET", "/readyz")
    return told if told.status == 503 else None


async def _long(product: Product, pieces: int, size: int = 64 * 1024) -> str:
    """A finished generation of so many pieces, more than sockets hold."""
    generation_id = await product.api.create()
    teller = await product.teller(generation_id)
    for _ in range(pieces):
        await teller.say("x" * size)
    await teller.end()
    return generation_id


def _socket(frontend: Frontend, path: str, cursor: str = "") -> socket.socket:
    """A client that asks and then reads nothing."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", frontend.port))
    named = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
    line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{named}\r\n".encode())
    line.setblocking(False)
    return line


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def _clients(frontend: Frontend) -> int:
    """How many clients' sockets the process holds."""
    folder = Path(f"/proc/{frontend.pid}/fd")
    held = {str(each.readlink()) for each in folder.iterdir() if each.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{frontend.port:04X}"
    return sum(f"socket:[{line[9]}]" in held for line in lines if line[1].endswith(here) and line[3] == ESTABLISHED)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Clients that ask for a path, and then read nothing."""
    with ExitStack() as lines:
        yield lambda *asked: lines.enter_context(_socket(*asked))


async def _drained(line: socket.socket) -> bytes:
    """Everything that is left in a line, to its end, however it ends."""
    told = b""
    try:
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(line, 2**20), 10):
            told += data
    except ConnectionResetError:
        pass
    return told


ESTABLISHED = "01"
MAX_GROWTH_KB = 10 * 1024
SLOW_PIECES, SLOW_PIECE = 12_800, 4096  # 50 MiB


async def test_readers_that_stop_reading_cost_a_page_each_slow_nobody_and_are_cut(
    product: Product, stuck: Stuck
) -> None:
    async with _one_more(product, client_write_timeout_s="1.5") as node:
        api = Api(product.http, node.url)
        await api.read(await product.told("warm", "up"))
        generation_id = await api.create()
        teller = await product.teller(generation_id)
        path = f"/v1/generations/{generation_id}/events"
        slow = [stuck(node, path) for _ in range(3)]
        await eventually(lambda: _figure(api, "tailrace_readers", 3))
        before = peak = _rss_kb(node.pid)
        told = 0

        async def tell() -> None:
            for _ in range(SLOW_PIECES // 16):
                await teller.say(*["~" * SLOW_PIECE] * 16)

        telling = asyncio.create_task(tell())
        async with product.http.get(api.url + path) as answer:
            while told < SLOW_PIECES * SLOW_PIECE:
                told += (await answer.content.readany()).count(b"~")
                peak = max(peak, _rss_kb(node.pid))
        await telling
        assert peak - before < MAX_GROWTH_KB
        await eventually(lambda: _figure(api, "tailrace_readers", 0), 6)
        assert _rss_kb(node.pid) - before < MAX_GROWTH_KB
        for line in slow:
            rest = await _drained(line)
            assert rest.startswith(b"HTTP/1.1 200 ")
            assert not rest.endswith(b"0\r\n\r\n")
            assert rest.count(b"~") < told / 2
    await product.log.delete(generation_id)


async def test_who_stops_reading_just_before_the_end_is_cut_too(product: Product, stuck: Stuck) -> None:
    async with _one_more(product, client_write_timeout_s="0.5") as node:
        generation_id = await _long(product, 200, 16 * 1024)
        path = f"/v1/generations/{generation_id}/events"
        entries = [entry async for entry in product.log.read_all(generation_id)]
        lines = [stuck(node, path, str(entry.id)) for entry in entries[4:-1:3]]
        api = Api(product.http, node.url)
        await eventually(lambda: _figure(api, "tailrace_streams_opened_total", len(lines)))
        await eventually(lambda: _holds(node, lambda clients: clients <= 1), 6)  # one asks for the figures


async def _holds(node: Frontend, enough: Callable[[int], bool]) -> bool:
    return enough(_clients(node))


async def test_while_redis_is_away_it_is_said_and_when_it_is_back_everything_goes_on() -> None:
    async with stack(workers=0, lease_s="4") as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        log = Log(connection.connect(running.redis.url), 600_000)
        generation_id = await api.create()
        teller = await Teller.of(log, generation_id)
        await teller.say("Hello")
        streams = [await api.stream(generation_id) for _ in range(3)]
        for stream in streams:
            await stream.until_said("Hello")
        pid = running.frontends[0].pid
        for stop in (running.redis.stop, running.redis.kill):
            await _flushed(log)
            await asyncio.to_thread(stop)
            await _refused_while_away(api, generation_id)
            await asyncio.to_thread(running.redis.start)
            await eventually(lambda: _is_back(api))
            await teller.say(f" after {stop.__name__}")
            for stream in streams:
                await stream.until_said(f" after {stop.__name__}")
        await teller.end()
        for stream in streams:
            await stream.rest()
            assert stream.text == "Hello after stop after kill"
            assert stream.kinds == ["created", "started", "item_opened", "text", "text", "text", "done"]
        assert running.frontends[0].pid == pid
        assert (await api.post(body())).status == 202
        assert "Traceback" not in running.frontends[0].output
        await log.redis.aclose()


async def _flushed(log: Log) -> None:
    """Everything so far is on disk."""
    await log.redis.execute_command("WAITAOF", 1, 0, 5000)


async def _is_back(api: Api) -> bool:
    return (await api.ask("GET", "/readyz")).status == 200


async def _refused_while_away(api: Api, generation_id: str) -> None:
    for told in (
        await api.post(body()),
        await api.get(generation_id),
        await api.list(),
        await api.cancel(generation_id),
        await api.delete(generation_id),
        await api.ask("GET", "/readyz"),
        await api.events(generation_id, Accept="application/x-ndjson"),
        await api.events(generation_id, Accept="*/*"),
    ):
        assert told.refusal == (503, "unavailable")
        assert int(told.headers["retry-after"]) >= 1
    told = await api.events(generation_id)
    assert told.status == 200
    parser = Parser()
    assert parser.feed(told.body) == []
    assert 1000 <= (parser.retry or 0) <= 3000
    assert len(parser.comments) == 1
    assert (await api.ask("GET", "/healthz")).status == 200


async def test_when_redis_stays_away_streams_are_ended_with_a_hint_to_come_again() -> None:
    async with stack(workers=0, lease_s=str(LEASE_S)) as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        generation_id = await api.create()
        stream = await api.stream(generation_id)
        await stream.until("created")
        await asyncio.to_thread(running.redis.stop)
        began = time.monotonic()
        await stream.rest()
        assert LEASE_S + 0.5 < time.monotonic() - began < LEASE_S + 3
        assert stream.parser.retry
        assert stream.parser.comments == ["the log's server is away"]
        assert stream.kinds == ["created"]
        await asyncio.to_thread(running.redis.start)
        await eventually(lambda: _is_back(api))
        await api.cancel(generation_id)
        rest = await api.read(generation_id, stream.parser.last_id)
        assert rest.kinds == ["done"]


async def test_on_a_young_server_what_is_missing_may_yet_come_back() -> None:
    async with stack(workers=0, lease_s="30") as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        told = await api.events(UNKNOWN)
        assert (told.status, told.body[:7]) == (200, b"retry: ")
        assert (await api.events(UNKNOWN, Accept="*/*")).refusal == (503, "unavailable")


async def test_a_redis_that_is_full_refuses_new_work_and_serves_what_there_is(product: Product) -> None:
    redis = product.log.redis
    generation_id = await product.told("Hello")
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", used)
    try:
        await asyncio.sleep(0.6)  # how old a look at the memory may be
        async with nothing_enqueued(product):
            told = await product.api.post(body())
        assert told.refusal == (503, "unavailable")
        assert int(told.headers["retry-after"]) >= 1
        assert (await product.api.read(generation_id)).text == "Hello"
        assert (await product.api.get(generation_id)).status == 200
    finally:
        await redis.config_set("maxmemory", 0)
    await asyncio.sleep(0.6)
    assert (await product.api.post(body())).status == 202


async def test_no_process_of_all_this_has_stumbled(product: Product) -> None:
    for frontend in product.stack.frontends:
        assert "Traceback" not in frontend.output
        for secret in ("anna-key-1", "ben-key-22", "0123456789abcdef", "sk-upstream-secret", "ticket="):
            assert secret not in frontend.output
