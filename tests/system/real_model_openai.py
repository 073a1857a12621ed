"""OpenAI's SDK and the wire of `useChat` on a real model, interrupted and resumed: the text of an uncut answer.

`scripts/try-real-model` runs it. Each answer has the temperature 0, and is compared with the one that the model itself
gives to the same request, and with what a reader received that was never interrupted.

    streamed      openai-python, a chat completion
    background    openai-python, a response in the background: its frontend is killed (SIGKILL) in the middle of the
                  answer, and another one is asked for the rest
    useChat       the requests that `useChat({resume: true})` sends: a POST that is cut, a GET of the stream by the page
                  that was loaded again, from another frontend
"""

import asyncio
import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp
from openai import APIError, AsyncOpenAI, omit

from support.stack import Frontend, Stack
from support.ui_message_reader import UiMessageReader
from tailrace.ids import new_token

CUT_AFTER = 6
"""Texts that a client has received when its connection is cut."""


class Answer(NamedTuple):
    """A text as a client has it, what is wrong with how it was received, and the number of interruptions."""

    text: str
    problems: Sequence[str] = ()
    cuts: int = 0


def clients_of(product: Stack) -> list[AsyncOpenAI]:
    return [AsyncOpenAI(base_url=f"{each.url}/v1", api_key="none", timeout=300) for each in product.frontends]


async def model_itself(upstream: str, model: str, question: str) -> str:
    """The answer without Tailrace."""
    async with AsyncOpenAI(base_url=upstream, api_key="none", timeout=300) as client:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0
        )
    return answer.choices[0].message.content or ""


async def streamed(product: Stack, model: str, question: str) -> Answer:
    """A chat completion through openai-python, and the same again, not streamed, from another frontend."""
    here, there = clients_of(product)
    async with here, there:
        stream = await here.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0,
            stream=True,
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
        again = await there.chat.completions.retrieve(chunks[0].id)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    is_same = again.choices[0].message.content == text
    return Answer(text, [] if is_same else ["the stored completion differs"])


async def background(product: Stack, model: str, question: str) -> Answer:
    """A response in the background whose frontend is killed, resumed by `starting_after`."""
    there, here = clients_of(product)
    doomed = product.frontends[1]
    async with here, there:
        stream = await here.responses.create(model=model, input=question, temperature=0, background=True, stream=True)
        received = await _until_killed(stream, doomed)
        cuts = int(not received[-1].type.endswith(("completed", "incomplete", "failed")))
        response_id = received[0].response.id
        uncut = asyncio.create_task(_all(there, response_id))
        received += await _all(there, response_id, after=received[-1].sequence_number)
        whole = await uncut
    await doomed.start()
    await doomed.ready()
    found = [] if received == whole else ["the events differ"]
    if [each.sequence_number for each in received] != list(range(len(received))):
        found.append("the numbers are not dense")
    text = "".join(each.delta for each in received if each.type == "response.output_text.delta")
    if received[-1].response.output_text != text:
        found.append("the final response has another text")
    return Answer(text, found, cuts)


async def _until_killed(stream: Any, doomed: Frontend) -> list[Any]:
    """The events that are received until the frontend is killed, after some texts."""
    received: list[Any] = []
    texts = 0
    try:
        async for event in stream:
            received.append(event)
            texts += event.type == "response.output_text.delta"
            if texts == CUT_AFTER:
                doomed.send(signal.SIGKILL)
                await doomed.wait()
                break
    except APIError:  # what was sent before the kill has been read
        pass
    finally:
        await stream.close()
    return received


async def _all(client: AsyncOpenAI, response_id: str, after: int | None = None) -> list[Any]:
    starting_after = omit if after is None else after
    stream = await client.responses.retrieve(response_id, stream=True, starting_after=starting_after)
    return [event async for event in stream]


async def use_chat(product: Stack, http: aiohttp.ClientSession, model: str, question: str) -> Answer:
    """A chat whose page is closed in the middle of the answer and loaded again."""
    here, there = (frontend.url for frontend in product.frontends)
    chat_id, asked = new_token(), {"id": "u1", "role": "user", "parts": [{"type": "text", "text": question}]}
    body = {"id": chat_id, "messages": [asked], "trigger": "submit-message", "model": model, "temperature": 0}
    async with http.post(f"{here}/api/chat", json=body) as answer:
        begun = await _read(answer, CUT_AFTER)
    async with http.get(f"{there}/api/chat/{chat_id}/stream") as answer:
        resumed = await _read(answer) if answer.status == 200 else None
    async with http.get(f"{here}/api/chat/{chat_id}/stream") as answer:
        idle = answer.status
    async with http.get(f"{there}/api/chat/{chat_id}/messages") as answer:
        *_, last = (await answer.json())["messages"]
    stored = "".join(part["text"] for part in last["parts"] if part["type"] == "text")
    text = resumed.text if resumed else stored
    found = [] if idle == 204 else [f"the idle stream is {idle}"]
    if not (text.startswith(begun.text) and stored == text):
        found.append("the page has another text")
    return Answer(text, found, int(resumed is not None))


async def _read(answer: aiohttp.ClientResponse, parts: int = 0) -> UiMessageReader:
    """What a page makes of the stream; `parts`: the connection is cut after about so many."""
    reader, rest, texts = UiMessageReader(), b"", 0
    async for data in answer.content.iter_any():
        frames, separator, rest = (rest + data).rpartition(b"\n\n")
        reader.feed(frames + separator)
        texts += data.count(b'"text-delta"')
        if parts and texts >= parts:
            answer.close()
            break
    return reader


async def openai_answers(
    product: Stack, http: aiohttp.ClientSession, upstream: str, model: str, questions: Sequence[str]
) -> int:
    """Print a line for each answer; the number of answers with a problem."""
    bad = 0
    for question in questions:
        await model_itself(upstream, model, question)  # the first answer differs: later ones use the cached prompt
        own = await model_itself(upstream, model, question)
        answers = {
            "streamed": await streamed(product, model, question),
            "background": await background(product, model, question),
            "useChat": await use_chat(product, http, model, question),
        }
        for name, answer in answers.items():
            found = list(answer.problems) + ([] if answer.text == own else ["not the model's own answer"])
            found += [] if answer.cuts or name == "streamed" else ["the answer was complete before it was cut"]
            bad += bool(found)
            print(f"{name:12} {answer.cuts} cuts  {', '.join(found) or 'equal'}  {answer.text[:44]!r}", flush=True)
    return bad
