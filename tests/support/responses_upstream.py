"""The scripted upstream of Responses, and the worker's client of it."""

import uuid
from contextlib import aclosing
from typing import Any

import httpx2
import pytest

from support.logs import record
from support.responses_streams import Json
from tailrace import jsoncodec
from tailrace.settings import Settings
from tailrace.upstreams import DEFAULT_UPSTREAM
from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.responses.stream import open_stream


class Upstream:
    """The scripted upstream, and the worker's client of it."""

    def __init__(self, base_url: str, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base_url = base_url
        self._http = http
        self._monkeypatch = monkeypatch
        self.script_id = ""

    def client(self, *, background: bool = False, idle_timeout_s: float = 30.0) -> UpstreamClient:
        self._monkeypatch.setenv("OPENAI_BASE_URL", self.base_url)
        self._monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream-secret")
        settings = Settings(upstream_idle_timeout_s=idle_timeout_s)
        return UpstreamClient(settings, DEFAULT_UPSTREAM.model_copy(update={"background": background}))

    def request(self, *steps: Json, **fields: Any) -> Json:
        self.script_id = uuid.uuid4().hex
        return {"model": "scripted", "input": "Hello?", "script": list(steps), "script_id": self.script_id, **fields}

    async def calls(self) -> Any:
        url = f"{self.base_url.removesuffix('/v1')}/calls"
        return (await self._http.get(url, params={"script_id": self.script_id})).json()

    async def status(self, response_id: str) -> str | None:
        found: str | None = (await self._http.get(f"{self.base_url}/responses/{response_id}")).json().get("status")
        return found

    async def read(
        self,
        request: Json,
        *,
        background: bool = False,
        left: BackgroundResponse | None = None,
        idle_timeout_s: float = 30.0,
        **fields: Any,
    ) -> list[Json]:
        """The events of an answer. `left`: by an earlier attempt."""
        client = self.client(background=background, idle_timeout_s=idle_timeout_s)
        given = record(api="responses", **fields)
        try:
            async with aclosing(open_stream(client, given, request, left)) as opened:
                return [jsoncodec.loads(payload) async for payloads in opened for payload in payloads]
        finally:
            await client.close()


def renamed(events: list[Json]) -> tuple[str, list[Json]]:
    """The events under an upstream's id of their own."""
    response_id = f"resp_{uuid.uuid4().hex}"
    return response_id, [
        {**each, "response": {**each["response"], "id": response_id}} if "response" in each else each for each in events
    ]
