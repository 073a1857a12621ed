"""`tailrace ask "…"`: create a generation and print its answer.

The command only reads: Ctrl-C, a closed terminal or a crash of it leave the generation to its worker.
"""

import asyncio
import sys
from collections.abc import Sequence

from tailrace import jsoncodec
from tailrace.errors import InvalidRequest, RequestTooLarge
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.access import Access, opened, owner_of
from tailrace_cli.interrupts import interruptible
from tailrace_cli.tail import print_text
from tailrace_frontend.http.schemas import check_create

STDIN = "-"


def main(settings: Settings, *, question: Sequence[str], model: str, system: str, caller: str) -> int:
    """Ask, and print the answer to its end. Returns the exit status: 1 for an answer that is not whole.

    Raises:
        InvalidRequest: there is no question, or no model is known.
        ModelNotFound, RateLimited, Unavailable: the generation was refused, as a frontend would refuse it.
    """
    text = _text_of(question)
    if not text.strip():
        raise InvalidRequest('there is no question: tailrace ask "What survives?"')
    return asyncio.run(interruptible(_ask(settings, text, model, system, owner_of(settings, caller))))


def _text_of(question: Sequence[str]) -> str:
    """The words of the question, with standard input in the place of `-`, or alone."""
    words = question or ([] if sys.stdin.isatty() else [STDIN])
    return " ".join(sys.stdin.read() if word == STDIN else word for word in words)


async def _ask(settings: Settings, text: str, model: str, system: str, owner: str) -> int:
    async with opened(settings) as access:
        messages = [{"role": "system", "content": system}] if system else []
        chosen = model or await _default_model(access, owner)
        body = {"model": chosen, "messages": [*messages, {"role": "user", "content": text}]}
        return await _create_and_print(access, owner, jsoncodec.replace_lone_surrogates(body))


async def _create_and_print(access: Access, owner: str, body: Json) -> int:
    size = len(jsoncodec.dumps(body))
    if size > access.settings.max_body_bytes:
        raise RequestTooLarge(f"the question may have at most {access.settings.max_body_bytes} bytes")
    request, options = check_create(body, access.settings)
    await access.policies.refresh()
    state, submission = await access.generations.create(owner, request, options, body_bytes=size)
    if submission is not None and not submission.workers:
        print("No worker is running: the answer begins once one does (`tailrace worker`).", file=sys.stderr)
    return await print_text(access, state)


async def _default_model(access: Access, owner: str) -> str:
    names = await access.generations.list_models(owner)
    if not names:
        raise InvalidRequest("no model is known: no worker has listed the upstream's. Name one with --model")
    return names[0]
