"""Which request repeats another one, and therefore gets its generation.

    Idempotency-Key                        the same key and body, for as long as the generation may be stored
    x-stainless-retry-count: 1, 2, …       the same body on the same path, until 120 s after the generation's end; the
                                           SDKs send the header with each request and no Idempotency-Key
    x-stainless-retry-count: 0             never a repetition: from now on the body makes a new generation

Two requests of one caller with one body at the same time are the same to the second rule: a repetition gets the newer
of the two. Callers that need more send a key.

A generation that the upstream refused with 429, or that was cancelled for want of a reader, is no answer to a later
request. Its repetitions get the next one, under a key that is made of its own key and its id: repetitions at the same
time get the same one.
"""

import hashlib
import time
from collections.abc import Mapping

from tailrace.events import Failure, Json, Options
from tailrace.log.state import GenerationState
from tailrace_frontend.generations import Generations, IdempotencyKey
from tailrace_frontend.http.bodies import IDEMPOTENCY_KEY, idempotency_key
from tailrace_frontend.http.openai.errors import http_status_of, is_abandoned

RETRY_COUNT = "x-stainless-retry-count"
RETRY_WINDOW_S = 120
"""openai-python and openai-node repeat within seconds; a `Retry-After` is obeyed up to 120 s by the first."""


def key_of(headers: Mapping[str, str], body: bytes, options: Options) -> IdempotencyKey | None:
    """The key by which a request's repetitions are known; None where they cannot be.

    `body`: everything that two requests must have in common, in its canonical form.

    Raises:
        InvalidRequest: the Idempotency-Key is empty or too long.
    """
    if (key := idempotency_key(headers)) is not None:
        return IdempotencyKey(key, body)
    count = headers.get(RETRY_COUNT, "")
    if not (count.isascii() and count.isdecimal()):
        return None
    digest = hashlib.sha256(body).hexdigest()
    return IdempotencyKey(f"retry {digest}", body, options.deadline_s + RETRY_WINDOW_S, is_new=not count.strip("0"))


def will_repeat(headers: Mapping[str, str]) -> bool:
    """Whether a client repeats a request whose connection breaks, and the repetition is recognized."""
    return RETRY_COUNT in headers or IDEMPOTENCY_KEY in headers


def next_key(key: IdempotencyKey, state: GenerationState) -> IdempotencyKey:
    """The key of the generation that takes the place of this one."""
    return key._replace(key=f"{key.key} after {state.record.id}", is_new=False)


async def find(
    generations: Generations, owner: str, request: Json, key: IdempotencyKey
) -> tuple[GenerationState | None, IdempotencyKey]:
    """The generation that a request repeats, if there is one, and the key under which it is, or is to be created.

    Raises:
        ModelNotFound, IdempotencyKeyReused, Gone, Unavailable: as `Generations.repeated`.
    """
    while (state := await generations.repeated(owner, request, key)) is not None:
        if not await is_over(generations, state, key):
            return state, key
        key = next_key(key, state)
    return None, key


async def is_over(generations: Generations, state: GenerationState, key: IdempotencyKey) -> bool:
    """Whether a generation that a key has led to is no longer the answer to its requests."""
    if (done := await generations.end(state)) is None:
        return False
    if done.error is not None and _is_temporary(done.error):
        return True
    return key.life_s is not None and time.time() - done.at > RETRY_WINDOW_S


def _is_temporary(error: Failure) -> bool:
    return is_abandoned(error) or http_status_of(error) == 429
