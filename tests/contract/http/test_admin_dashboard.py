"""The read API of the dashboard, its acts and its sessions."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.product import UNKNOWN_ID, Product
from support.routes import PUBLIC, declared_scopes
from tailrace import keys
from tailrace.events import Failure, ItemOpened, ToolArguments
from tailrace.ids import new_generation_id
from tailrace.queue.presence import WorkerPresence, WorkerStatus
from tailrace.settings import Settings
from tailrace_frontend.app import STREAM_ROUTES, Frontend
from tailrace_frontend.dashboard.detail import trace_json

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-of-content-7301"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}
SCOPES = {
    "viewer": "admin:view",
    "operator": "admin:operate",
    "auditor": "admin:content",
    "caller": "read+create+cancel",
}
KEYS = ",".join(f"{name}:key-of-{name}-1;scopes={scopes}" for name, scopes in SCOPES.items())


class Guarded(NamedTuple):
    """A frontend with keys."""

    product: Product
    url: str

    def __getattr__(self, name: str) -> Api:
        return Api(self.product.http, self.url, f"key-of-{name}-1")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(product: Product) -> AsyncIterator[Guarded]:
    async with product.frontend(api_keys=KEYS, ticket_secret="0123456789abcdef") as frontend:
        yield Guarded(product, frontend.url)


async def get(api: Api, path: str) -> Any:
    response = await api.request("GET", f"/v1/admin{path}")
    assert response.status == 200, response
    return response.value


async def failed(guarded: Guarded, message: str = "") -> str:
    """The id of a generation that has ended with text, a tool call and an error."""
    prompt = [{"role": "user", "content": f"Question {CANARY}"}]
    generation_id = await guarded.caller.create(messages=prompt)
    writer = await guarded.product.writer(generation_id)
    await writer.write_text(f"Answer {CANARY}")
    await writer.write(ItemOpened(1, "call", id="call_1", name=CANARY), ToolArguments(1, f'"{CANARY}"'))
    await writer.end("failed", error=Failure(f"upstream: {CANARY}", "upstream_refused"))
    return generation_id


# What is read


async def test_overview_has_the_load_and_what_is_wrong(guarded: Guarded) -> None:
    overview = await get(guarded.viewer, "/overview")
    assert overview["workers"] == []
    assert [badge["code"] for badge in overview["badges"]] == ["no_workers"]
    assert overview["servers"][0]["memory"] > 0


async def test_overviews_at_the_same_time_have_the_same_workers(product: Product) -> None:
    presence = WorkerPresence(product.log.server, lease_ms=5000)
    names = [f"worker-{n}" for n in range(5)]
    frontend = await product.stack.add_frontend()  # it knows no name of theirs
    api = Api(product.http, frontend.url)
    for name in names:
        await presence.heartbeat(name, WorkerStatus(host=name))
    answers = await asyncio.gather(*(get(api, "/overview") for _ in range(16)))
    for overview in answers:
        assert {each["id"]: each["host"] for each in overview["workers"]} == dict(zip(names, names, strict=True))
    await frontend.stop()
    for name in names:
        await presence.deregister(name)


async def test_snapshots_are_streamed(guarded: Guarded) -> None:
    headers = {"authorization": "Bearer key-of-viewer-1"}
    async with guarded.product.http.get(f"{guarded.url}/v1/admin/overview/events", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        for expected in (True, False):
            frame = (await response.content.readuntil(b"\n\n")).decode()
            assert frame.startswith("event: snapshot\ndata: ")
            assert ("recent" in json.loads(frame.partition("data: ")[2])) is expected


async def test_stream_of_a_stopping_frontend_asks_its_clients_to_come_back(product: Product) -> None:
    frontend = await product.stack.add_frontend()
    async with product.http.get(f"{frontend.url}/v1/admin/overview/events") as response:
        await response.content.readuntil(b"\n\n")
        await frontend.stop()
        assert b"retry: " in await response.content.read()


async def test_list_is_searched_by_qualifiers_and_paged(guarded: Guarded) -> None:
    ids = [await guarded.caller.create(model=f"paged-{n % 2}") for n in range(6)]
    found = await get(guarded.viewer, "/generations?q=model:paged-1&limit=2")
    assert [row["id"] for row in found["data"]] == [ids[5], ids[3]]
    rest = await get(guarded.viewer, f"/generations?q=model:paged-1&limit=2&after={found['after']}")
    assert [row["id"] for row in rest["data"]] == [ids[1]]
    assert rest["after"] is None
    await guarded.caller.request("POST", f"/v1/generations/{ids[3]}/cancel")
    await guarded.caller.request("DELETE", f"/v1/generations/{ids[3]}")
    await get(guarded.viewer, "/generations")  # what is deleted leaves the list
    again = await get(guarded.viewer, f"/generations?q=model:paged-1&limit=2&after={found['after']}")
    assert [row["id"] for row in again["data"]] == [ids[1]]
    refused = await guarded.viewer.request("GET", f"/v1/admin/generations?after={ids[3]}")
    assert refused.refusal == (400, None)
    assert (await get(guarded.viewer, f"/generations?q={ids[0]}"))["id"] == ids[0]
    refused = await guarded.viewer.request("GET", "/v1/admin/generations?q=colour:red")
    assert refused.refusal == (400, "invalid_value")


async def test_end_and_error_are_in_the_list(guarded: Guarded) -> None:
    generation_id = await failed(guarded)
    (row,) = (await get(guarded.viewer, "/generations?q=error:upstream_refused&limit=1"))["data"]
    assert (row["id"], row["status"], row["owner"], row["error"]) == (
        generation_id, "failed", "caller", "upstream_refused",
    )  # fmt: skip
    assert row["ended_at"] >= row["created_at"]


async def test_generation_has_its_measures_and_its_timeline(guarded: Guarded) -> None:
    generation_id = await failed(guarded)
    detail = await get(guarded.viewer, f"/generations/{generation_id}")
    assert detail["failure"] == {"code": "upstream_refused", "type": "server_error", "status": None}
    assert detail["options"]["on_interrupt"] == "restart"
    timeline = await get(guarded.viewer, f"/generations/{generation_id}/timeline")
    assert [attempt["ended"] for attempt in timeline["attempts"]] == ["failed: upstream_refused"]
    assert {"created", "done"} <= {moment["what"] for moment in timeline["timeline"]}
    for path in ("", "/timeline", "/content"):
        missing = await guarded.auditor.request("GET", f"/v1/admin/generations/{UNKNOWN_ID}{path}")
        assert missing.status == 404


async def test_health_has_the_settings_without_secrets(guarded: Guarded) -> None:
    health = await get(guarded.viewer, "/health")
    assert {check["level"] for check in health["checks"]} <= {"ok", "warning", "bad"}
    shown = {setting["name"]: setting["value"] for setting in health["settings"]}
    assert shown["TAILRACE_API_KEYS"] == shown["TAILRACE_TICKET_SECRET"] == "(set)"
    assert set(shown) == {f"TAILRACE_{name.upper()}" for name in Settings.model_fields}
    assert "key-of-" not in json.dumps(health)


async def test_health_has_the_probes_of_all_processes(product: Product) -> None:
    presence = WorkerPresence(product.log.server, lease_ms=5000)
    await presence.heartbeat("well", WorkerStatus(host="here", pid=7, version="1"))
    await presence.heartbeat("unfit", WorkerStatus(refusal="Redis is away."))
    found = (await get(product.api, "/health"))["probes"]
    frontends = [each for each in found if each["tier"] == "frontend"]
    assert len(frontends) >= 2
    assert all(each["name"] and each["version"] for each in frontends)
    assert {each["level"] for each in frontends} <= {"ok", "warning"}
    workers = {each["name"]: (each["level"], each["text"]) for each in found if each["tier"] == "worker"}
    assert workers == {"well on here (7)": ("ok", ""), "unfi on  (0)": ("bad", "Redis is away.")}
    for name in ("well", "unfit"):
        await presence.deregister(name)


async def test_upstreams_are_those_of_the_file_and_those_ever_called(guarded: Guarded) -> None:
    (upstream,) = (await get(guarded.viewer, "/upstreams"))["data"]
    assert (upstream["is_configured"], upstream["open"]) == (True, False)


async def test_readers_of_all_frontends_have_their_cursors_and_operators_are_marked(guarded: Guarded) -> None:
    generation_id = await guarded.caller.create()
    writer = await guarded.product.writer(generation_id)
    await writer.write_text("Hello")
    stream = await guarded.caller.stream(generation_id)
    await stream.until_text("Hello")
    url = f"{guarded.url}/v1/admin/generations/{generation_id}/events"
    headers = {"authorization": "Bearer key-of-auditor-1"}
    async with guarded.product.http.get(url, headers=headers) as watching:
        await watching.content.readuntil(b"Hello")
        found = await get(guarded.viewer, f"/generations/{generation_id}/readers")
        assert (found["count"], found["missing"]) == (2, 0)
        assert found["frontends"] >= 2
        elsewhere = await get(guarded.product.api, f"/generations/{generation_id}/readers")
        assert elsewhere == found, "whichever frontend is asked"
        assert sorted(each["watches"] for each in found["data"]) == [False, True]
        assert {each["cursor"] for each in found["data"]} == {stream.parser.last_id}
        assert {each["state"] for each in found["data"]} == {"live"}
        assert (await get(guarded.viewer, f"/generations/{generation_id}"))["readers"] == 1
    stream.cut()
    await guarded.caller.cancel(generation_id)
    assert (await guarded.viewer.request("GET", f"/v1/admin/generations/{UNKNOWN_ID}/readers")).status == 404


async def test_stream_of_an_operator_takes_no_place_of_the_caller(product: Product) -> None:
    limits = {"api_keys": KEYS, "ticket_secret": "0123456789abcdef", "max_readers_per_caller": "1"}
    async with product.frontend(**limits) as frontend:
        guarded = Guarded(product, frontend.url)
        generation_id = await guarded.caller.create()
        url = f"{frontend.url}/v1/admin/generations/{generation_id}/events"
        headers = {"authorization": "Bearer key-of-auditor-1"}
        async with product.http.get(url, headers=headers) as watching:
            assert watching.status == 200
            (await guarded.caller.stream(generation_id)).cut()
        await guarded.caller.cancel(generation_id)


async def test_log_is_downloaded_as_it_stands(guarded: Guarded) -> None:
    generation_id = await guarded.caller.create()
    writer = await guarded.product.writer(generation_id)
    await writer.write_text(f"Answer {CANARY}")
    path = f"/v1/admin/generations/{generation_id}/log"
    running = await guarded.auditor.request("GET", path)
    await writer.end()
    ended = await guarded.auditor.request("GET", path)
    assert ended.headers["content-disposition"] == f'attachment; filename="{generation_id}.ndjson"'
    assert ended.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in ended.body.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("created", "done")
    assert running.body == b"".join(line + b"\n" for line in ended.body.splitlines()[: running.body.count(b"\n")])
    assert CANARY.encode() in running.body
    assert b'"done"' not in running.body
    native = await guarded.caller.request(
        "GET", f"/v1/generations/{generation_id}/events", headers={"accept": "application/x-ndjson"}
    )
    assert ended.body == native.body
    assert (await guarded.operator.request("GET", path)).refusal == (403, "insufficient_scope")


async def test_request_is_run_again_as_its_caller(guarded: Guarded) -> None:
    messages = [{"role": "user", "content": "Once more"}]
    first = await guarded.caller.create(
        messages=messages, metadata={"team": "blue"}, tailrace={"on_disconnect": "cancel", "priority": "low"}
    )
    answer = await guarded.operator.request("POST", f"/v1/admin/generations/{first}/rerun")
    assert (answer.status, answer.value["status"]) == (201, "queued")
    second = (await guarded.caller.get(answer.value["id"])).value
    assert second["request"] == (await guarded.caller.get(first)).value["request"]
    detail = await get(guarded.viewer, f"/generations/{second['id']}")
    assert (detail["owner"], detail["options"]["priority"]) == ("caller", "low")
    assert detail["options"]["on_disconnect"] == "continue"
    for name in ("viewer", "auditor", "caller"):
        refused = await getattr(guarded, name).request("POST", f"/v1/admin/generations/{first}/rerun")
        assert refused.refusal == (403, "insufficient_scope")
    acts = (await get(guarded.viewer, "/audit?limit=50"))["data"]
    assert {"who": "operator", "action": "rerun", "target": first, "outcome": "ok"}.items() <= next(
        each for each in acts if each["action"] == "rerun" and each["who"] == "operator"
    ).items()
    for each in (first, second["id"]):
        await guarded.caller.cancel(each)


async def test_metadata_is_searched_with_the_scope_of_content(guarded: Guarded) -> None:
    tagged = await guarded.caller.create(metadata={"group": f"blue-{CANARY}"})
    found = await get(guarded.auditor, "/generations?q=tag:group=blue*")
    assert [row["id"] for row in found["data"]] == [tagged]
    assert found["data"][0]["tags"] == [f"group=blue-{CANARY}"]
    refused = await guarded.viewer.request("GET", "/v1/admin/generations?q=tag:group")
    assert refused.refusal == (403, "insufficient_scope")
    await guarded.caller.cancel(tagged)


async def test_parked_generation_waits_and_is_found(guarded: Guarded) -> None:
    """As many of its caller's run as may: a worker has moved it out of the queue, and no sweeper moves it back."""
    redis, policy = guarded.product.log.server.client, "/v1/admin/callers/caller"
    await guarded.operator.request("PATCH", policy, json={"max_running": 1})
    await redis.zadd(keys.running("caller"), {"another": 1e15})
    generation_id = await guarded.caller.create(model="parked-here")
    job_id = (await guarded.product.log.state(generation_id)).job_id
    async with redis.pipeline() as moving:
        moving.zadd(keys.parked("caller"), {job_id: 0})
        moving.hset(keys.PARKED, "caller", "1")
        moving.zrem(keys.QUEUE, job_id)
        await moving.execute()

    async def is_counted() -> bool:
        overview = await get(guarded.viewer, "/overview")
        return bool(overview["parked"] == 1 and overview["waiting"] == 1 + await redis.zcard(keys.QUEUE))

    await eventually(is_counted)
    found = await get(guarded.viewer, "/generations?q=status:waiting model:parked-here")
    assert [row["id"] for row in found["data"]] == [generation_id]
    await redis.delete(keys.running("caller"))
    await guarded.operator.request("DELETE", policy)
    await guarded.caller.cancel(generation_id)


async def test_generation_that_was_traced_has_the_address_of_its_trace(product: Product) -> None:
    record = (await product.log.state(await product.api.create())).record
    traced = msgspec.structs.replace(record, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    assert trace_json(record, "https://t/{trace_id}") is None
    assert trace_json(traced, "") == {"id": "ab" * 16, "url": None}
    assert trace_json(traced, "https://t/{trace_id}?x") == {"id": "ab" * 16, "url": f"https://t/{'ab' * 16}?x"}
    assert (await get(product.api, f"/generations/{record.id}"))["trace"] is None


# Content


async def test_content_is_in_no_answer_to_a_key_without_its_scope(guarded: Guarded) -> None:
    """Every route under /v1/admin is asked; only a refusal may stand where the content is."""
    generation_id = await failed(guarded)
    api = Frontend(Settings(redis_url="redis://127.0.0.1:1/0")).api
    paths = {path for method, path in declared_scopes(api) if method == "GET" and path.startswith("/v1/admin")}
    paths |= {"/v1/admin/generations/{generation_id}/events"}
    assert len(paths) > 10
    for name in ("viewer", "operator"):
        for path in sorted(paths):
            response = await getattr(guarded, name).request("GET", path.replace("{generation_id}", generation_id))
            assert CANARY.encode() not in response.body, path
    content = await guarded.auditor.request("GET", f"/v1/admin/generations/{generation_id}/content")
    events = await guarded.auditor.request("GET", f"/v1/admin/generations/{generation_id}/events")
    for response in (content, events):
        assert response.body.count(CANARY.encode()) >= 2
    assert (await get(guarded.auditor, f"/generations/{generation_id}"))["failure"]["message"].endswith(CANARY)


async def test_streams_need_their_scopes(guarded: Guarded) -> None:
    generation_id = await guarded.caller.create()
    events = f"/v1/admin/generations/{generation_id}/events"
    for name in ("viewer", "operator", "caller"):
        assert (await getattr(guarded, name).request("GET", events)).refusal == (403, "insufficient_scope")
    assert (await guarded.caller.request("GET", "/v1/admin/overview/events")).refusal == (403, "insufficient_scope")
    assert (await guarded.auditor.request("GET", f"/v1/admin/generations/{UNKNOWN_ID}/events")).status == 404
    assert len(STREAM_ROUTES) >= 4


# Acts


async def test_acts_need_the_scope_of_operators(guarded: Guarded) -> None:
    generation_id = await guarded.caller.create()
    for name in ("viewer", "auditor"):
        api = getattr(guarded, name)
        for method, path in (
            ("POST", f"/generations/{generation_id}/cancel"), ("DELETE", f"/generations/{generation_id}"),
            ("POST", "/generations/cancel"), ("POST", "/generations/delete"), ("POST", "/workers/w/drain"),
            ("POST", "/workers/w/stop"),
        ):  # fmt: skip
            assert (await api.request(method, f"/v1/admin{path}")).refusal == (403, "insufficient_scope")
    assert (await guarded.caller.get(generation_id)).value["status"] == "queued"


async def test_operator_cancels_and_deletes_any_generation(guarded: Guarded) -> None:
    generation_id = await guarded.caller.create()
    response = await guarded.operator.request("POST", f"/v1/admin/generations/{generation_id}/cancel")
    assert response.value == {"id": generation_id, "status": "cancelled"}
    assert (await guarded.operator.request("DELETE", f"/v1/admin/generations/{generation_id}")).status == 204
    assert (await guarded.caller.get(generation_id)).status == 410


async def test_many_are_cancelled_and_deleted_at_once(guarded: Guarded) -> None:
    ids = [await guarded.caller.create() for _ in range(5)]
    given = {"ids": [*ids, ids[0], UNKNOWN_ID]}
    response = await guarded.operator.request("POST", "/v1/admin/generations/cancel", json=given)
    assert response.value == {"done": 5, "unchanged": 0, "missing": 1, "failed": 0}
    response = await guarded.operator.request("POST", "/v1/admin/generations/cancel", json=given)
    assert response.value == {"done": 0, "unchanged": 5, "missing": 1, "failed": 0}
    response = await guarded.operator.request("POST", "/v1/admin/generations/delete", json=given)
    assert response.value == {"done": 5, "unchanged": 0, "missing": 1, "failed": 0}


async def test_audit_has_every_id_of_an_act_on_many(guarded: Guarded) -> None:
    ids = [await guarded.caller.create() for _ in range(16)]
    given = {"ids": [*ids, *(new_generation_id() for _ in range(100))]}
    response = await guarded.operator.request("POST", "/v1/admin/generations/delete", json=given)
    assert response.value == {"done": 16, "unchanged": 0, "missing": 100, "failed": 0}
    entries = (await guarded.operator.request("GET", "/v1/admin/audit?limit=1000")).value["data"]
    acts = [each for each in reversed(entries) if " of 16: " in each["target"]]
    assert sorted(found for each in acts for found in re.findall(r"gen_\w+", each["target"])) == sorted(ids)
    assert {(each["who"], each["outcome"]) for each in acts} == {("operator", "ok")}
    assert acts[0]["target"].startswith("1-7 of 16: gen_")


async def test_act_that_changes_nothing_is_one_line_and_no_act(guarded: Guarded) -> None:
    async def count_acts() -> int:
        return int(await guarded.product.log.server.execute("XLEN", keys.AUDIT_ACTS))

    ended = await guarded.caller.create()
    await guarded.caller.cancel(ended)
    acts = await count_acts()
    ids = [ended, *(new_generation_id() for _ in range(99))]
    for _ in range(3):
        assert (await guarded.operator.request("POST", "/v1/admin/generations/cancel", json={"ids": ids})).status == 200
        assert (await guarded.operator.request("POST", f"/v1/admin/generations/{ended}/cancel")).status == 200
    assert await count_acts() == acts
    entries = (await guarded.operator.request("GET", "/v1/admin/audit?limit=1000")).value["data"]
    assert len([each for each in entries if each["target"] == "none of 100"]) == 1


@pytest.mark.parametrize(
    "ids", [None, [], ["x"], [1], ["gen_" + "a" * 26] * 1 + [f"gen_{n:a>26}" for n in range(1001)]]
)
async def test_other_lists_of_ids_are_refused(guarded: Guarded, ids: Any) -> None:
    response = await guarded.operator.request("POST", "/v1/admin/generations/delete", json={"ids": ids})
    assert response.status == 400


async def test_worker_that_is_not_alive_gets_no_command(guarded: Guarded) -> None:
    for command in ("drain", "stop"):
        assert (await guarded.operator.request("POST", f"/v1/admin/workers/gone/{command}")).status == 404


async def test_worker_drains_and_stops(product: Product) -> None:
    worker = await product.stack.add_worker(lease_s="1")

    async def workers() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await get(product.api, "/workers"))["data"]
        return found

    (alive,) = await eventually(workers)
    assert (alive["draining"], alive["slots"], alive["refusal"]) == (False, 100, "")
    path = f"/v1/admin/workers/{alive['id']}"
    assert (await product.api.request("POST", f"{path}/drain")).status == 202

    async def drains() -> bool:
        return (await workers())[0]["draining"] is True

    await eventually(drains)
    generation_id = await product.api.create()
    assert (await get(product.api, "/overview"))["badges"][0]["code"] == "all_draining"
    assert (await product.api.request("POST", f"{path}/stop")).status == 202
    assert await worker.wait() == 0
    assert await workers() == []
    assert (await product.api.get(generation_id)).value["status"] == "queued"
    await product.api.cancel(generation_id)


# Sessions


async def test_browser_logs_in_and_out(guarded: Guarded) -> None:
    async with aiohttp.ClientSession(guarded.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get("/v1/admin/session") as response:
            assert await response.json() == {"caller": None, "scopes": []}
        key = {"key": "key-of-operator-1"}
        async with browser.post("/v1/admin/session", json=key, headers=SAME_ORIGIN) as response:
            assert response.status == 200
            assert await response.json() == {"caller": "operator", "scopes": ["admin:operate"]}
        async with browser.get("/v1/admin/overview") as response:
            assert response.status == 200
        async with browser.get("/v1/generations") as response:
            assert response.status == 401, "the session is for the dashboard alone"
        async with browser.post("/v1/admin/generations/delete", json={"ids": [UNKNOWN_ID]}) as response:
            assert response.status == 403
        unknown, crossing = {"ids": [UNKNOWN_ID]}, {"sec-fetch-site": "cross-site"}
        async with browser.post("/v1/admin/generations/delete", json=unknown, headers=crossing) as response:
            assert response.status == 403
        async with browser.post("/v1/admin/generations/delete", json=unknown, headers=SAME_ORIGIN) as response:
            assert response.status == 200
        async with browser.delete("/v1/admin/session", headers=SAME_ORIGIN) as response:
            assert response.status == 204
        async with browser.get("/v1/admin/overview") as response:
            assert response.status == 401


async def test_login_needs_a_key_of_an_admin(guarded: Guarded) -> None:
    stranger = Api(guarded.product.http, guarded.url)

    async def log_in(key: Any, **headers: str) -> tuple[int, str | None]:
        given = headers or SAME_ORIGIN
        return (await stranger.request("POST", "/v1/admin/session", json={"key": key}, headers=given)).refusal

    assert await log_in("key-of-caller-1") == (403, "insufficient_scope")
    assert await log_in("wrong-key-1") == (401, "invalid_api_key")
    assert (await log_in(7))[0] == 400
    assert (await log_in("key-of-viewer-1", **{"sec-fetch-site": "cross-site"}))[0] == 403


async def test_header_of_the_session_cannot_be_sent(guarded: Guarded) -> None:
    """The protocol makes it of the cookie; a client's own is dropped."""
    stranger = Api(guarded.product.http, guarded.url)
    response = await stranger.request("POST", "/v1/admin/session", json={"key": "key-of-viewer-1"}, headers=SAME_ORIGIN)
    cookie = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
    refused = await stranger.request("GET", "/v1/admin/me", headers={"tailrace-session": cookie})
    assert refused.status == 401
    found = await stranger.request("GET", "/v1/admin/me", headers={"cookie": f"a=b; tailrace_admin={cookie}; c=d"})
    assert found.value["caller"] == "viewer"


# The page


async def test_page_and_its_files_are_served_for_a_year(guarded: Guarded) -> None:
    stranger = Api(guarded.product.http, guarded.url)
    for path in ("/dashboard", "/dashboard/", "/dashboard/workers", f"/dashboard/generations/{UNKNOWN_ID}"):
        page = await stranger.request("GET", path)
        assert (page.status, page.headers["cache-control"]) == (200, "no-cache")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
    files = [path for method, path in PUBLIC if path.startswith("/dashboard/") and path.endswith((".js", ".css"))]
    assert len(files) > 15
    for path in files:
        assert "immutable" in (await stranger.request("GET", path)).headers["cache-control"]
    assert (await stranger.request("GET", "/dashboard/0123456789abcdef/main.js")).status == 404
