"""The scripted upstream."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio

from support.responses_upstream import Upstream
from tailrace_demo import running


@pytest_asyncio.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    async with running() as base_url, httpx2.AsyncClient() as http:
        yield Upstream(base_url, http, monkeypatch)
