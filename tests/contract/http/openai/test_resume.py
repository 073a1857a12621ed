"""Resume equality: a stream up to any number, and what another frontend sends behind it, are the whole, byte for byte.

The transcripts are one log for every case of an answer, and the recorded answers of a real model. Every number that a
stream has is tried. (`scripts/chaos --scenario resume-equality` does the same for every vendor's stream, live.)
"""

import re
from collections.abc import AsyncIterator
from itertools import groupby
from typing import NamedTuple

import pytest
import pytest_asyncio

from support.api import Api
from support.log_writer import LogWriter
from support.logs import log_of
from support.named_logs import LOGS
from support.product import Product
from support.transcripts import RECORDINGS
from tailrace.events import Done, Entry, GenerationRecord
from tailrace.ids import EntryId
from tailrace.log import AppendBatch, Outcome
from tailrace.log.codec import to_row

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERED = re.compile(rb'"sequence_number":(\d+)[^\n]*\n\n')
TRANSCRIPTS = [*LOGS, *RECORDINGS]
ASKING = {"stream_options": {"include_usage": True}}


class Route(NamedTuple):
    path: str
    prefix: str


CHAT = Route("/v1/chat/completions", "chatcmpl-")
RESPONSES = Route("/v1/responses", "resp_")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere(product: Product) -> AsyncIterator[Api]:
    """Another frontend on the same Redis."""
    async with product.frontend() as frontend:
        yield Api(product.http, frontend.url)


def entries_of(name: str, record: GenerationRecord) -> list[Entry]:
    return LOGS[name](record) if name in LOGS else log_of(RECORDINGS[name], record)


async def stored(product: Product, name: str) -> str:
    """The id of a generation whose log is this transcript, written attempt by attempt."""
    generation_id = await product.api.create(**ASKING)
    state = await product.log.state(generation_id)
    _, *entries = entries_of(name, state.record)  # the log has `created`
    last_seq = state.seq
    for number, (_, attempt) in enumerate(groupby(entries, lambda entry: entry.id.epoch)):
        writer = await LogWriter.acquire(product.log, generation_id, f"attempt {number}", worker="log-writer")
        last_seq = await write(product, writer, list(attempt), last_seq)
    return generation_id


async def write(product: Product, writer: LogWriter, entries: list[Entry], last_seq: int) -> int:
    """Append the entries of one attempt as they are, and end the log where they do; the last sequence number."""
    rows = [to_row(Entry(EntryId(writer.epoch, each.id.seq), each.event, each.extra)) for each in entries]
    end = entries[-1] if isinstance(entries[-1].event, Done) else None
    if appended := rows[:-1] if end else rows:
        result = await writer.send(AppendBatch(writer.generation_id, writer.epoch, last_seq, appended))
        assert result.outcome is Outcome.OK
        last_seq = result.seq
    if end and isinstance(end.event, Done):
        result = await product.log.finish(writer.generation_id, writer.epoch, last_seq, end.event, end.extra)
        assert result.outcome is Outcome.OK
    return last_seq


async def test_transcripts_are_at_least_twenty() -> None:
    assert len(TRANSCRIPTS) >= 20


@pytest.mark.parametrize("route", [CHAT, RESPONSES], ids=["chat", "responses"])
@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_stream_behind_every_number_completes_the_whole_byte_for_byte(
    product: Product, elsewhere: Api, name: str, route: Route
) -> None:
    generation_id = await stored(product, name)
    path = f"{route.path}/{route.prefix}{generation_id.removeprefix('gen_')}?stream=true"
    whole = (await product.api.request("GET", path)).body
    numbers = [(int(each[1]), each.end()) for each in NUMBERED.finditer(whole)]
    assert [number for number, _ in numbers] == sorted({number for number, _ in numbers})
    if route is RESPONSES:
        assert [number for number, _ in numbers] == list(range(len(numbers)))
    for number, end in numbers:
        rest = await elsewhere.request("GET", f"{path}&starting_after={number}")
        assert whole[:end] + rest.body == whole
