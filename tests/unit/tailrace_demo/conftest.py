from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from openai import AsyncOpenAI

from tailrace_demo import running


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A server of each file: it counts calls by their `script_id` for as long as it runs."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running()) as url:
        yield url


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=base_url.removesuffix("/v1")) as client:
        yield client


@pytest.fixture
async def openai(base_url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client
