"""The read API of the dashboard, its acts and its sessions."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from support.api import Api, eventually
from support.product import UNKNOWN_ID, Product
from support.routes import PUBLIC, declared_scopes
from tailrace.events import Failure, ItemOpened, ToolArguments
from tailrace.settings import Settings
from tailrace_frontend.app import STREAM_ROUTES, Frontend

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


async def test_upstreams_are_those_of_the_file_and_those_ever_called(guarded: Guarded) -> None:
    (upstream,) = (await get(guarded.viewer, "/upstreams"))["data"]
    assert (upstream["is_configured"], upstream["open"]) == (True, False)


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
    assert (alive["draining"], alive["slots"], alive["running"]) == (False, 100, 0)
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
    for path in ("/dashboard", "/dashboard/workers", f"/dashboard/generations/{UNKNOWN_ID}"):
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
