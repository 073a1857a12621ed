"""`tailrace dev --load`: living traffic and faults, so that the dashboard has something to show.

    callers  create generations of the demo model, as `tailrace ask --caller` does, each at its own rate
    readers  follow them at the frontend: live, slowly, leaving, returning with a cursor
    chaos    kills the worker with SIGKILL now and then, while something runs

In open mode every request is one caller's (`open`), so creations do not go through the frontend. Policies of the
callers, which have their weights, are set at the start and removed at the end, where there were none before.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, NamedTuple

import aiohttp

from tailrace.errors import TailraceError
from tailrace.log.state import GenerationState
from tailrace.process.tasks import cancel_and_wait
from tailrace.queue import Submission
from tailrace.queue.caller_policies import NO_POLICY, parse_policy
from tailrace.settings import Settings
from tailrace_cli.access import Access, opened
from tailrace_cli.load_mix import RETENTION_S, LoadCaller, callers_in, models_of
from tailrace_cli.load_readers import Readers
from tailrace_frontend.http.schemas import check_create

FIRST_KILL_S = 8.0
KILLS_S = (30.0, 60.0)
"""Between two kills of the worker."""

CANCELS_S = (1.0, 4.0)
"""After which a client cancels."""

LOOK_S = 0.2
LOOKED_AT = 50
"""Of the newest generations, for one that runs."""

REMEMBERED = 2000

Created = tuple[GenerationState, Submission | None]

QUESTIONS = ("What survives?", "Which entry is the last?", "Who reads the log?", "What does a lease mean?")

logger = logging.getLogger(__name__)


class LoadPlan(NamedTuple):
    """`rate`: generations a second, of all callers together."""

    rate: float
    has_faults: bool = True


async def run_load(
    settings: Settings, plan: LoadPlan, url: str, kill_worker: Callable[[], bool], ending: asyncio.Event
) -> None:
    """Load the installation until `ending` is set; what is unfinished then is cancelled.

    `settings`: with its Redis; `url`: of its frontend. `kill_worker`: whether there was one.
    """
    async with opened(settings) as access, aiohttp.ClientSession(url) as http, _policies(access):
        working = [
            asyncio.create_task(access.confirmations.run(), name="confirmations"),
            asyncio.create_task(access.history.run(), name="history"),
        ]
        load = _Load(access, http, plan)
        try:
            await load.run(kill_worker, ending)
        finally:
            await load.end()
            await cancel_and_wait(*working)


@contextlib.asynccontextmanager
async def _policies(access: Access) -> AsyncIterator[None]:
    """The callers' policies, during the block, where they have none, or those of a load that was killed."""
    await access.policies.refresh()
    wanted = {name: parse_policy(caller.policy) for name, caller in callers_in(access.settings).items()}
    ours = [name for name, policy in wanted.items() if access.policies.policy(name) in (NO_POLICY, policy)]
    try:
        for name in ours:
            await access.policies.put(name, wanted[name])
        yield
    finally:
        with contextlib.suppress(TailraceError):
            for name in ours:
                await access.policies.remove(name)


class _Load:
    """The tasks of one run."""

    def __init__(self, access: Access, http: aiohttp.ClientSession, plan: LoadPlan) -> None:
        self._access = access
        self._readers = Readers(http, access.settings.api_key.get_secret_value())
        self._plan = plan
        self._random = random.Random()  # noqa: S311 - nothing is secret
        self._newest: deque[str] = deque(maxlen=REMEMBERED)
        self._clients: set[asyncio.Task[None]] = set()
        self._creating: set[asyncio.Future[Created]] = set()

    async def run(self, kill_worker: Callable[[], bool], ending: asyncio.Event) -> None:
        """Run the callers until `ending` is set."""
        works = [self.call(name, caller) for name, caller in callers_in(self._access.settings).items()]
        if self._plan.has_faults:
            works.append(self.kill_workers(kill_worker))
        tasks = [asyncio.create_task(work, name="load") for work in works]
        waiting = asyncio.create_task(ending.wait(), name="end of the load")
        try:
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # an error: none of the others ends by itself
        finally:
            await cancel_and_wait(waiting, *tasks, *self._clients)

    async def end(self) -> None:
        """Cancel what is unfinished: another run may have an upstream that no demo model is. A creation that is on its
        way is awaited."""
        await asyncio.gather(*self._creating, return_exceptions=True)
        with contextlib.suppress(TailraceError):
            states = await self._access.log.states(list(self._newest))
            unfinished = (each for each in states if isinstance(each, GenerationState) and not each.is_final)
            await asyncio.gather(*map(self._cancel, unfinished))

    async def call(self, name: str, caller: LoadCaller) -> None:
        """Create generations of one caller, at random times."""
        pause_s = caller.at_once / (self._plan.rate * caller.share)
        models = models_of(caller, has_faults=self._plan.has_faults)
        await asyncio.sleep(self._random.uniform(0, min(pause_s, 2)))
        while True:
            for model in self._random.choices(list(models), list(models.values()), k=caller.at_once):
                try:
                    self._accompany(caller, await self._create(name, caller, model))
                except TailraceError as error:  # a limit refuses it, or Redis is away: the next one may pass
                    logger.debug("load of %s: %s", name, error)
            await asyncio.sleep(min(self._random.expovariate(1 / pause_s), 3 * pause_s))

    async def _create(self, owner: str, caller: LoadCaller, model: str) -> GenerationState:
        question = f"{self._random.choice(QUESTIONS)} ({self._random.randrange(10_000)})"  # a `-once` of its own
        name, _, rate = model.partition("@")
        body = {
            "model": name,
            "messages": [{"role": "user", "content": question}],
            "tailrace": {"retention_s": RETENTION_S, "priority": caller.priority},
            **({"tokens_per_second": float(rate)} if rate else {}),
        }
        request, options = check_create(body, self._access.settings)
        await self._access.policies.refresh()
        creating = asyncio.ensure_future(self._access.generations.create(owner, request, options))
        self._creating.add(creating)
        creating.add_done_callback(self._on_created)
        state, _ = await asyncio.shield(creating)
        return state

    def _on_created(self, creating: "asyncio.Future[Created]") -> None:
        self._creating.discard(creating)
        if creating.exception() is None:
            self._newest.append(creating.result()[0].record.id)

    def _accompany(self, caller: LoadCaller, state: GenerationState) -> None:
        """Read it, and maybe cancel it."""
        if caller.readers:
            reader = self._random.choice(caller.readers)
            self._start(self._readers.read(state.record.id, state.record.owner, reader))
        if self._random.random() < caller.cancels:
            self._start(self._cancel(state, after_s=self._random.uniform(*CANCELS_S)))

    def _start(self, client: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(client, name="client of the load")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _cancel(self, state: GenerationState, after_s: float = 0) -> None:
        await asyncio.sleep(after_s)
        with contextlib.suppress(TailraceError):
            await self._access.generations.cancel(state.record.id, state.record.owner)

    async def kill_workers(self, kill: Callable[[], bool]) -> None:
        """Kill the worker now and then, while one of our generations runs."""
        due = time.monotonic() + FIRST_KILL_S
        while True:
            if time.monotonic() > due and await self._is_running() and kill():
                logger.info("the load has killed the worker")
                due = time.monotonic() + self._random.uniform(*KILLS_S)
            await asyncio.sleep(LOOK_S)

    async def _is_running(self) -> bool:
        try:
            states = await self._access.log.states(list(self._newest)[-LOOKED_AT:])
        except TailraceError:
            return False
        return any(isinstance(state, GenerationState) and state.status == "running" for state in states)
