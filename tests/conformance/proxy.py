"""A proxy before Tailrace that gives the generated tests of openai-python something to find.

These tests are written for a mock of OpenAI's specification, which answers every id and every body. So the proxy
replaces ids of the tests by those of objects that it creates, one for each request, and adds what a request needs. A
parameter that Tailrace refuses is recorded and left out, and the request is sent again: what remains must be answered.
It changes no answer.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import aiohttp
from aiohttp import ClientConnectionResetError, web

Json = dict[str, Any]

MODEL = "gpt-6-astra"
"""The model of the tests; the upstream has a script for it."""

ID_OF_CHAT = "completion_id"
IDS_OF_RESPONSES = ("resp_677efb5139a88190b512bc3fef8e535d", "resp_123", "response_id", "previous_response_id")
ID_OF_WEBHOOK = "whe_123"
WEBHOOKS = "/v1/webhook_endpoints"
EVENT = "response.completed"

HOP = {"host", "content-length", "connection", "keep-alive", "transfer-encoding"}
MAX_REFUSALS = 40
STEP = re.compile(r"[^.\[\]]+")


class Refusal(NamedTuple):
    """A parameter that was refused on a route, with the error's code."""

    route: str
    param: str
    code: str


class Proxy:
    """`refusals` counts the requests whose parameter was refused."""

    def __init__(self, target: str, http: aiohttp.ClientSession) -> None:
        self._target = target
        self._http = http
        self.url = ""
        self.refusals: Counter[Refusal] = Counter()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        route = f"{request.method} {request.path}"
        path, query = await self._with_ids(request.path), dict(request.query)
        body = await self._prepared(request)
        for _ in range(MAX_REFUSALS):
            answer = await self._send(request, path, query, body)
            async with answer:
                refused = await _refused(answer)
                if refused is None or not _without(refused["param"], query, body):
                    return await _passed_on(request, answer)
                self.refusals[Refusal(route, refused["param"], refused["code"])] += 1
        raise web.HTTPInternalServerError(text=f"{route}: refused {MAX_REFUSALS} times")

    async def _send(
        self, request: web.Request, path: str, query: dict[str, str], body: Json | None
    ) -> aiohttp.ClientResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        url = f"{self._target}{path}"
        return await self._http.request(request.method, url, params=query, json=body, headers=headers)

    async def _prepared(self, request: web.Request) -> Json | None:
        """The body with what the mock does not ask for."""
        if not request.body_exists:
            return None
        body: Json = await request.json()
        if request.path == "/v1/responses":
            body = {"model": MODEL, "input": "string"} | body
        if request.path == "/v1/responses/input_tokens":
            body = {"input": "string"} | body
        if body.get("previous_response_id") in IDS_OF_RESPONSES:
            body["previous_response_id"] = await self._new_response()
        if "webhook_endpoints" in request.path:
            body |= self._of_webhook(body)
        if request.path == WEBHOOKS:
            await self._delete_webhooks()
        return body

    def _of_webhook(self, body: Json) -> Json:
        """An address and events that there are, where the body has those fields."""
        known: Json = {"url": f"{self.url}/hook", "event_types": [EVENT], "event_type": EVENT}
        return {name: value for name, value in known.items() if name in body}

    async def _with_ids(self, path: str) -> str:
        parts = path.split("/")
        for i, part in enumerate(parts):
            if part == ID_OF_CHAT:
                parts[i] = await self._new_chat()
            elif part in IDS_OF_RESPONSES:
                parts[i] = await self._new_response()
            elif part == ID_OF_WEBHOOK:
                parts[i] = await self._new_webhook()
        return "/".join(parts)

    async def _new_chat(self) -> str:
        return await self._create("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]})

    async def _new_response(self) -> str:
        """A response that ran in the background and has ended."""
        created = await self._create("responses", {"input": "Hi", "background": True})
        async with self._http.get(f"{self._target}/v1/responses/{created}", params={"stream": "true"}) as events:
            await events.read()
        return created

    async def _new_webhook(self) -> str:
        await self._delete_webhooks()
        body = {"name": "x", "url": f"{self.url}/hook", "event_types": [EVENT]}
        return await self._create("webhook_endpoints", body)

    async def _delete_webhooks(self) -> None:
        """A caller may have few endpoints, and each test leaves one."""
        async with self._http.get(f"{self._target}{WEBHOOKS}") as answer:
            for endpoint in (await answer.json())["data"]:
                async with self._http.delete(f"{self._target}{WEBHOOKS}/{endpoint['id']}") as deleted:
                    deleted.raise_for_status()

    async def _create(self, path: str, body: Json) -> str:
        model = {} if path == "webhook_endpoints" else {"model": MODEL}
        async with self._http.post(f"{self._target}/v1/{path}", json=body | model) as answer:
            answer.raise_for_status()
            return str((await answer.json())["id"])


async def _refused(answer: aiohttp.ClientResponse) -> Json | None:
    if answer.status != 400:
        return None
    error: Json = (await answer.json())["error"]
    return error if error["param"] else None


def _without(param: str, query: dict[str, str], body: Json | None) -> bool:
    """Remove the parameter at this place; whether there was one."""
    if query.pop(param, None) is not None:
        return True
    *steps, last = STEP.findall(param)
    place: Any = body
    for step in steps:
        place = _at(place, step)
    if _at(place, last) is None:
        return False
    del place[int(last) if isinstance(place, list) else last]
    return True


def _at(value: Any, step: str) -> Any:
    if isinstance(value, list):
        return value[int(step)] if step.isdigit() and int(step) < len(value) else None
    return value.get(step) if isinstance(value, dict) else None


async def _passed_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    with suppress(ClientConnectionResetError):  # the tests close a stream before its end
        if answer.status == 400:  # `_refused` has read it
            await response.write(await answer.read())
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    return response


async def _received(_: web.Request) -> web.Response:
    return web.Response(status=204)


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """The proxy before a frontend's URL, until the block ends."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        running = Proxy(target, http)
        app = web.Application()
        app.add_routes([web.post("/hook", _received), web.route("*", "/{path:.*}", running.answer)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            running.url = f"http://{host}:{port}"
            yield running
        finally:
            await runner.cleanup()
