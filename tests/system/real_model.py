"""Twenty answers of a real model, each cut three times and resumed on the other of two frontends.

`scripts/try-real-model` runs it. For every answer one reader is never cut and one is cut at random points; both must
have the same text and the same ids, and the sequence numbers must be dense. It also measures what Tailrace adds to the
model's own time to the first text. Then OpenAI's SDK and the wire of `useChat` are tried (`real_model_openai`).
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, NamedTuple

import aiohttp

from support.stack import Stack, stack
from system.real_model_openai import openai_answers

QUESTIONS = (
    "Why is the sky blue?", "Tell me a short story about a river.", "What is a log?", "How do I bake bread?",
    "Name five fruits and say why you like them.", "Explain gravity to a child.", "What survives a crash?",
    "Write a poem about water.", "How does a mill work?", "Describe Paris in five sentences.",
)  # fmt: skip
WIDTHS = {"created": 1, "started": 1, "item_opened": 2, "text": 1, "done": 4}  # for answers of one text item
CUTS = 3


class Event(NamedTuple):
    epoch: int
    seq: int
    kind: str
    data: dict[str, Any]


async def events(lines: AsyncIterable[bytes]) -> AsyncIterator[Event]:
    """Server-Sent Events, parsed exactly as they are sent."""
    fields: dict[str, str] = {}
    async for raw in lines:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            epoch, _, seq = fields["id"].partition("-")
            yield Event(int(epoch), int(seq), fields["event"], json.loads(fields["data"]))
            fields = {}


async def whole(http: aiohttp.ClientSession, url: str) -> list[Event]:
    async with http.get(url) as answer:
        return [event async for event in events(answer.content)]


async def cut(http: aiohttp.ClientSession, urls: list[str], points: list[int]) -> tuple[list[Event], int]:
    """The events, read with a cut after each of these numbers of events and resumed at the next url; and the cuts."""
    received: list[Event] = []
    for turn, wanted in enumerate([*points, sys.maxsize]):
        headers = {"Last-Event-ID": f"{received[-1].epoch}-{received[-1].seq}"} if received else {}
        async with http.get(urls[turn % len(urls)], headers=headers) as answer:
            got = 0
            async for event in events(answer.content):
                received.append(event)
                got += 1
                if event.kind == "done":
                    return received, turn
                if got == wanted:
                    answer.close()
                    break
    raise AssertionError("no end")


def text(received: list[Event]) -> str:
    return "".join(event.data["text"] for event in received if event.kind == "text")


def problems(uncut: list[Event], resumed: list[Event]) -> list[str]:
    found = []
    if text(uncut) != text(resumed):
        found.append("the texts differ")
    last = -1
    for event in uncut:
        if event.seq - WIDTHS[event.kind] != last:
            found.append(f"a gap before {event.seq}")
        last = event.seq
    ids, seen = [event.seq for event in resumed], {event.seq for event in uncut}
    if ids != sorted(set(ids)) or not set(ids) <= seen or ids[-1] != last:
        found.append("the resumed ids are not the uncut ones")
    return found


async def first_text(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> float:
    """Seconds from the request to the first text."""
    began = time.perf_counter()
    async with http.post(url, json=body, headers={"Accept": "text/event-stream"}) as answer:
        async for line in answer.content:
            if line.startswith(b'data: {"text":') or b'"content":' in line.replace(b'": "', b'":"'):
                return time.perf_counter() - began
    raise AssertionError("no text")


def request(model: str, question: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **more}


async def resume_answers(product: Stack, http: aiohttp.ClientSession, model: str, count: int) -> int:
    """Print a line for each answer; the number of answers with a problem."""
    bad = 0
    for number in range(count):
        question = QUESTIONS[number % len(QUESTIONS)]
        body = request(model, question, max_tokens=160, seed=number, temperature=0.8)
        async with http.post(f"{product.url}/v1/generations", json=body) as answer:
            generation_id = (await answer.json())["id"]
        urls = [f"{frontend.url}/v1/generations/{generation_id}/events" for frontend in product.frontends]
        points = [random.randint(1, 15) for _ in range(CUTS)]
        uncut, (resumed, cuts) = await asyncio.gather(whole(http, urls[0]), cut(http, urls, points))
        found = problems(uncut, resumed)
        bad += bool(found) or cuts < CUTS
        verdict = ", ".join(found) or "equal, dense"
        print(
            f"{number + 1:3}/{count}  {len(uncut):4} entries  {cuts} cuts  {verdict}  {text(uncut)[:44]!r}", flush=True
        )
    return bad


async def added_time(product: Stack, http: aiohttp.ClientSession, upstream: str, model: str, count: int) -> None:
    body = request(model, "Say hi.", max_tokens=4, stream=True, temperature=0)
    through, direct = [], []
    for _ in range(count):
        direct.append(await first_text(http, f"{upstream}/chat/completions", body))
        await asyncio.sleep(0.1)
        through.append(await first_text(http, f"{product.url}/v1/generations", body))
        await asyncio.sleep(0.1)
    added = sorted(1000 * (with_us - alone) for with_us, alone in zip(through, direct, strict=True))
    print(
        f"to the first text, ms: upstream p50 {1000 * statistics.median(direct):.1f}, "
        f"through Tailrace p50 {1000 * statistics.median(through):.1f}, "
        f"added p50 {statistics.median(added):.1f}, p95 {added[int(0.95 * count)]:.1f} ({count} pairs)"
    )


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default="http://127.0.0.1:8081/v1")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--questions", type=int, default=4, help="for the SDK and `useChat`")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}")
    async with stack(workers=1, frontends=2) as product, aiohttp.ClientSession() as http:
        await product.point_workers_at(options.upstream)
        bad = await resume_answers(product, http, options.model, options.answers)
        await added_time(product, http, options.upstream, options.model, options.pairs)
        questions = QUESTIONS[: options.questions]
        bad += await openai_answers(product, http, options.upstream, options.model, questions)
    print(f"{options.answers + 3 * len(questions)} answers, {bad} with a problem")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
