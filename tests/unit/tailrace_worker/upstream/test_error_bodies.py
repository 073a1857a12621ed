"""Bodies of answers with an error status: endless, hanging, broken, not to be decompressed."""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pytest

from tailrace.settings import Settings
from tailrace_worker.upstream import error_bodies as module
from tailrace_worker.upstream.client import UpstreamClient
from tailrace_worker.upstream.errors import failure_from_exception

BUSY = b'{"error":{"message":"Busy"}}'
ENDLESS = 400
"""Blocks of 64 KiB: 25 MiB."""


@asynccontextmanager
async def served(
    head: bytes, body: bytes, *, blocks: int = 0, hangs_s: float = 0, sent: list[int] | None = None
) -> AsyncIterator[str]:
    """The address of a server that answers 503 so. `sent` has the blocks that it could send."""
    tasks = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        try:
            head_of_request = await reader.readuntil(b"\r\n\r\n")
            size = head_of_request.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(size or b"0"))
            writer.write(b"HTTP/1.1 503 Busy\r\n" + head + b"\r\n\r\n" + body)
            for number in range(blocks):
                writer.write(b"x" * 65536)
                await writer.drain()
                (sent or []).append(number)
            await asyncio.sleep(hangs_s)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        for task in tasks:
            assert task
            task.cancel()
        await asyncio.gather(*(task for task in tasks if task), return_exceptions=True)


async def error_of(url: str, monkeypatch: pytest.MonkeyPatch) -> openai.APIStatusError:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    client = UpstreamClient(Settings())
    with pytest.raises(openai.InternalServerError) as raised:
        async with client.sdk.chat.completions.with_streaming_response.create(model="m", messages=[], stream=True):
            raise AssertionError("the upstream answered")
    await client.close()
    return raised.value


async def message_of(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    return failure_from_exception(await error_of(url, monkeypatch)).message


def deflated(text: bytes) -> bytes:
    """Without the header that `deflate` has."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(text) + compressor.flush()


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        (b"connection: close", BUSY, "The upstream failed (status 503): Busy"),
        (b"content-length: 28", BUSY, "The upstream failed (status 503): Busy"),
        (
            b"connection: close\r\ncontent-encoding: gzip",
            gzip.compress(BUSY, mtime=0),
            "The upstream failed (status 503): Busy",
        ),
        (b"connection: close\r\ncontent-encoding: gzip", b"garbage", "The upstream failed (status 503)."),
        (
            b"connection: close\r\ncontent-encoding: deflate",
            zlib.compress(BUSY),
            "The upstream failed (status 503): Busy",
        ),
        (
            b"connection: close\r\ncontent-encoding: deflate",
            deflated(BUSY),
            "The upstream failed (status 503): Busy",
        ),
        (b"connection: close\r\ncontent-encoding: br", b"\x0b\x02\x80Busy\x03", "The upstream failed (status 503)."),
        (b"connection: close\r\ncontent-encoding: utf-8", BUSY, "The upstream failed (status 503): Busy"),
        (
            b"connection: close\r\ncontent-type: text/plain; charset=iso-8859-1",
            "Überlastet".encode("latin-1"),
            "The upstream failed (status 503): Überlastet",
        ),
        (
            b"connection: close\r\ncontent-type: text/plain; charset=zlib",
            b"Busy",
            "The upstream failed (status 503): Busy",
        ),
        (
            b"connection: close\r\ncontent-type: text/plain; charset=punycode",
            b"Busy-",
            "The upstream failed (status 503): Busy-",
        ),
        (b"content-length: 999", BUSY, "The upstream failed (status 503): Busy"),
        (b"content-length: 999", BUSY[:9], "The upstream failed (status 503)."),
        (b"connection: close", b"<html>", "The upstream failed (status 503)."),
        (b"connection: close", b"[" * 60_000, "The upstream failed (status 503)."),
        (b"content-length: 0", b"", "The upstream failed (status 503)."),
    ],
)
async def test_status_counts_whatever_its_body_is(
    monkeypatch: pytest.MonkeyPatch, head: bytes, body: bytes, message: str
) -> None:
    async with served(head, body) as url:
        assert await message_of(url, monkeypatch) == message


async def test_body_that_does_not_end_is_awaited_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ERROR_BODY_S", 0.1)
    async with served(b"content-length: 999", BUSY, hangs_s=60) as url:
        began = time.monotonic()
        assert await message_of(url, monkeypatch) == "The upstream failed (status 503): Busy"
        assert time.monotonic() - began < 1


async def test_endless_body_is_read_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [0]
    async with served(b"connection: close", b"x", blocks=ENDLESS, sent=sent) as url:
        message = await message_of(url, monkeypatch)
    assert message.startswith("The upstream failed (status 503): xxx")
    assert len(sent) < ENDLESS / 2  # what the kernel holds on its own


BOMB = gzip.compress(b"x" * 8 * 1024 * 1024)


async def test_compressed_body_is_decompressed_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(b"connection: close\r\ncontent-encoding: gzip", BOMB) as url:
        error = await error_of(url, monkeypatch)
    assert len(error.response.content) == module.MAX_ERROR_BYTES
    assert failure_from_exception(error).message.startswith("The upstream failed (status 503): xxx")


@pytest.mark.parametrize("codings", [b"gzip, gzip", b"gzip\r\ncontent-encoding: gzip", b"identity, gzip, deflate"])
async def test_body_that_was_compressed_several_times_is_none(monkeypatch: pytest.MonkeyPatch, codings: bytes) -> None:
    async with served(b"connection: close\r\ncontent-encoding: " + codings, gzip.compress(BOMB)) as url:
        error = await error_of(url, monkeypatch)
    assert error.response.content == b""
    assert failure_from_exception(error).message == "The upstream failed (status 503)."
