"""Questions to all frontends at once, for those who look: who reads a generation, and whether each may serve.

    asker       publishes the question, and learns how many frontends have received it
    frontends   each adds its answer to a list of the question's own
    asker       reads the list until it is complete, or `WAIT_S` is over

So nothing is reported where no one looks. A frontend that does not answer in time is missing, and counted.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import msgspec

from tailrace import keys
from tailrace.errors import RedisRefused, Unavailable
from tailrace.ids import new_token
from tailrace.process.tasks import cancel_and_wait
from tailrace.redis.channels import Channels
from tailrace.redis.server import RedisServer, checked

WAIT_S = 0.5
STEP_S = 0.02
SHARED_S = 1.0
ANSWERS_LIFE_MS = 5000
MOST_UNDER_WAY = 32

logger = logging.getLogger(__name__)


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """`about`: the id of a generation, of `readers`. `token`: names the list of the answers."""

    kind: Literal["readers", "status"]
    about: str = ""
    token: str = ""


class Answers(NamedTuple):
    """What came. `asked`: how many frontends have received the question."""

    found: list[bytes]
    asked: int


Answering = Callable[[Question], Awaitable[bytes]]
"""One frontend's answer to a question."""


class RollCall:
    """The questions of one frontend, and its answers to those of all."""

    def __init__(self, server: RedisServer, answer: Answering) -> None:
        self._server = server
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[Question, tuple[float, asyncio.Task[Answers]]] = {}

    def listen(self, subscriber: Channels) -> None:
        """Answer what is asked on a connection to the queue's server."""
        subscriber.add(keys.FRONTENDS_ASKED, self._on_message)

    async def ask(self, question: Question) -> Answers:
        """What all frontends answer, `SHARED_S` ago at most: those who ask the same here share the answers.

        Raises:
            RedisUnavailable, RedisRefused.
        """
        now = time.monotonic()
        self._asked = {each: known for each, known in self._asked.items() if now - known[0] < SHARED_S}
        if question not in self._asked:
            asking = asyncio.create_task(self._ask(question), name="question")
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # all who asked may have left
            self._asked[question] = now, asking
        return await asyncio.shield(self._asked[question][1])

    async def _ask(self, question: Question) -> Answers:
        question = msgspec.structs.replace(question, token=new_token())
        name = keys.frontends_answers(question.token)
        asked = int(await self._server.execute("SPUBLISH", keys.FRONTENDS_ASKED, msgspec.json.encode(question)))
        found: list[bytes] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while len(found) < asked:
                    await asyncio.sleep(STEP_S)
                    found = await self._server.execute("LRANGE", name, 0, -1)
        return Answers(found, asked)

    async def close(self) -> None:
        await cancel_and_wait(*self._tasks, *(task for _, task in self._asked.values()))

    def _on_message(self, message: bytes | None) -> None:
        if not message or len(self._tasks) >= MOST_UNDER_WAY:
            return
        try:
            question = msgspec.json.decode(message, type=Question)
        except msgspec.MsgspecError:  # of a later version
            return
        task = asyncio.create_task(self._reply(question), name="answer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, question: Question) -> None:
        """An outage is logged elsewhere; who asked sees that an answer is missing."""
        name = keys.frontends_answers(question.token)
        with contextlib.suppress(Unavailable, RedisRefused):
            answer = await self._answer(question)
            checked(await self._server.execute_many([("RPUSH", name, answer), ("PEXPIRE", name, ANSWERS_LIFE_MS)]))
