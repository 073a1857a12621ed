"""`examples/openai-node`: an answer in the background, whose client is killed in the middle of it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from support import npm
from support.stack import Stack, stack
from tailrace_cli.children import die_with_parent

EXAMPLE = Path(__file__).parents[2] / "examples" / "openai-node"
QUESTION = "What survives?"

pytestmark = [pytest.mark.long, npm.requires_npm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product() -> AsyncIterator[Stack]:
    npm.install(EXAMPLE)
    async with stack(workers=1, frontends=2, lease_s="1") as running:
        yield running


async def start(url: str, answer: Path, *question: str) -> asyncio.subprocess.Process:
    environment = npm.environment(OPENAI_BASE_URL=f"{url}/v1", ANSWER_FILE=str(answer))
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        "node", "background.mjs", *question, cwd=EXAMPLE, env=environment, stdout=pipe, stderr=pipe,
        preexec_fn=die_with_parent,
    )  # fmt: skip


async def read_until(process: asyncio.subprocess.Process, size: int) -> bytes:
    """So many bytes of output, or more."""
    assert process.stdout is not None
    output = b""
    while len(output) < size:
        piece = await process.stdout.read(4096)
        assert piece, "the example has ended"
        output += piece
    return output


def id_in(answer: Path) -> str:
    """The id of the response that the example has written into its file."""
    return str(json.loads(answer.read_text().splitlines()[0])["id"])


async def text_of_response(url: str, answer: Path) -> str:
    """The text of that response, as one read without interruption has it."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/responses/{id_in(answer)}") as response:
        value = await response.json()
    assert value["status"] == "completed"
    return "".join(part["text"] for part in value["output"][0]["content"])


async def test_answer_of_a_client_that_was_killed_twice_is_whole(product: Stack, tmp_path: Path) -> None:
    here, there = (frontend.url for frontend in product.frontends)
    answer = tmp_path / "answer.jsonl"
    client = await start(here, answer, QUESTION)
    first = await read_until(client, 20)
    client.send_signal(signal.SIGKILL)
    await client.wait()
    again = await start(there, answer)
    second = await read_until(again, len(first) + 20)
    assert second.startswith(first)
    again.send_signal(signal.SIGKILL)
    await again.wait()
    output, errors = await (await start(here, answer)).communicate()
    assert errors == b""
    assert output.decode() == await text_of_response(here, answer) + "\n"


async def test_answer_survives_a_killed_frontend_with_its_client(product: Stack, tmp_path: Path) -> None:
    answer = tmp_path / "answer.jsonl"
    frontend = product.frontends[0]
    client = await start(frontend.url, answer, QUESTION)
    await read_until(client, 20)
    await frontend.stop(signal.SIGKILL)
    assert await client.wait() != 0, "a broken stream is never the end of an answer"
    output, _ = await (await start(product.frontends[1].url, answer)).communicate()
    assert output.decode() == await text_of_response(product.frontends[1].url, answer) + "\n"
    await frontend.start()
    await frontend.ready()


async def test_finished_answer_is_printed_again(product: Stack, tmp_path: Path) -> None:
    answer = tmp_path / "answer.jsonl"
    whole, _ = await (await start(product.url, answer, QUESTION)).communicate()
    again, errors = await (await start(product.url, answer)).communicate()
    assert (again, errors) == (whole, b"")
