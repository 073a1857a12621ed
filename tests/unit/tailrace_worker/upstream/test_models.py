import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tailrace.settings import Settings
from tailrace_worker.upstream import models
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.errors import Unreadable
from tailrace_worker.upstream.models import list_models


@asynccontextmanager
async def upstream_that_lists(monkeypatch: pytest.MonkeyPatch, answer: web.Response) -> AsyncIterator[UpstreamClient]:
    async def listed(request: web.Request) -> web.Response:
        assert request.headers["authorization"] == "Bearer sk-a-key-of-tests"
        return answer

    app = web.Application()
    app.router.add_get("/v1/models", listed)
    async with TestServer(app) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.make_url('/v1')}")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-tests")
        client = UpstreamClient(Settings())
        yield client
        await client.close()


async def test_models_are_asked_of_the_upstream_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"object": "list", "data": [{"id": "nomic-embed-text", "object": "model"}, {"id": "llama3.2"}]}
    async with upstream_that_lists(monkeypatch, web.json_response(body)) as client:
        assert await list_models(client) == ["llama3.2", "nomic-embed-text"]


async def test_models_of_an_upstream_without_a_list_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream_that_lists(monkeypatch, web.Response(status=404)) as client:
        with pytest.raises(openai.NotFoundError):
            await list_models(client)


async def test_surrogate_in_one_name_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    body = rb'{"data": [{"id": "good"}, {"id": "half \ud83d"}, {"id": NaN}, {"id": "best"}]}'
    async with upstream_that_lists(monkeypatch, web.Response(body=body)) as client:
        assert await list_models(client) == ["good", "half \ufffd", "best"]


async def test_list_that_is_no_json_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream_that_lists(monkeypatch, web.Response(body=b"<html>")) as client:
        with pytest.raises(Unreadable, match="is no list of models"):
            await list_models(client)


async def test_list_that_was_compressed_several_times_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = gzip.compress(gzip.compress(b'{"data": [{"id": "good"}]}'))
    answer = web.Response(body=body, headers={"content-encoding": "gzip, gzip"})
    async with upstream_that_lists(monkeypatch, answer) as client:
        with pytest.raises(Unreadable, match="is compressed several times"):
            await list_models(client)


async def test_models_in_an_unbounded_list_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "MAX_BYTES", 64)
    async with upstream_that_lists(monkeypatch, web.Response(body=b"[" + b" " * 100)) as client:
        with pytest.raises(ValueError, match="more than"):
            await list_models(client)
