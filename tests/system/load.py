"""Generations under way, each with its readers, and one run of a scenario with all that it found."""

import asyncio
import contextlib
import itertools
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from system.audit import Footprint, audit, baseline
from system.checker import Case, Plan, Violation
from system.fleet import Fleet, fleet, seeded
from system.readers import Nodes, Reader
from system.wire_client import ask

Tell = Callable[[str], None]


class Load:
    """Creates generations on a fleet and has them read. `nodes`: where clients go."""

    def __init__(self, product: Fleet, rng: random.Random, nodes: Nodes) -> None:
        self.fleet = product
        self.nodes = nodes
        self.cases: list[Case] = []
        self.accepted_at: dict[str, float] = {}
        self._rng = rng

    @property
    def readers(self) -> list[Reader]:
        return [reader for case in self.cases for reader in case.readers]

    async def create(self, plan: Plan, patience_s: float = 30) -> Case:
        """Ask until it is accepted, as a client with an Idempotency-Key may."""
        key, deadline = secrets.token_hex(8), time.monotonic() + patience_s
        while True:
            status, told = await ask(
                self.nodes.next(), "POST", "/v1/generations", plan.body(), Idempotency_Key=key, timeout=10
            )
            if status == 202:
                break
            if status not in (0, 429, 503) or time.monotonic() > deadline:
                raise AssertionError(f"not accepted: {status} {told}")
            await asyncio.sleep(0.1)
        case = Case(plan, told["id"])
        self.cases.append(case)
        self.accepted_at[case.generation] = time.monotonic()
        return case

    def reader(self, case: Case, name: str, nodes: Nodes | None = None, **how: Any) -> Reader:
        name = f"{case.plan.tag} {name} {case.generation}"
        reader = Reader(name, case.plan, case.generation, nodes or self.nodes, **how)
        case.readers.append(reader)
        return reader

    async def play(self, plan: Plan, stay: int = 1, hop: int = 1, patience_s: float = 60) -> Case:
        """Create, read to the end with readers that stay and readers that leave and resume, and look once more."""
        case = await self.create(plan)
        readers = [self.reader(case, f"stays {i}") for i in range(stay)]
        readers += [self.reader(case, f"hops {i}", hop=lambda: self._rng.randint(3, 30)) for i in range(hop)]
        await asyncio.gather(*(reader.read(patience_s) for reader in readers))
        return case

    async def play_until(
        self, plans: Iterator[Plan], at_least: int, busy: Callable[[], bool], concurrency: int, **how: Any
    ) -> None:
        """Keep so many generations running until enough were made and nothing is done to the fleet any more."""
        made = itertools.count(1)

        async def one_after_another() -> None:
            while next(made) <= at_least or busy():
                await self.play(next(plans), **how)

        async with asyncio.TaskGroup() as playing:
            for _ in range(concurrency):
                playing.create_task(one_after_another())

    async def look_again(self, sample: int | None = None) -> None:
        """Fresh readers, and readers that were at the end, of all that ended (or a sample): all must agree."""
        cases = self.cases if sample is None else self._rng.sample(self.cases, min(sample, len(self.cases)))
        limit = asyncio.Semaphore(20)

        async def look(case: Case) -> None:
            async with limit:
                await self.look_at(case)

        await asyncio.gather(*map(look, cases))
        for case in self.cases:
            case.compare()

    async def look_at(self, case: Case) -> None:
        """One of them."""
        fresh = self.reader(case, "comes later")
        await fresh.read(20)
        if fresh.done is None:
            return
        path, end = f"/v1/generations/{case.generation}", fresh.heard[-1].event.id or ""
        status, _ = await ask(self.nodes.next(), "GET", f"{path}/events", Last_Event_ID=end, Accept="text/event-stream")
        if status not in (204, 0):
            case.found.append(Violation("end", case.plan.tag, f"a reader at the end is answered {status}"))
        status, told = await ask(self.nodes.next(), "GET", path)
        if status == 200 and told["status"] != fresh.done["status"]:
            case.found.append(Violation("two ends", case.plan.tag, f"{told['status']}, {fresh.done['status']}"))


class Run:
    """One run of one scenario: its seed and size, and what came of it."""

    def __init__(self, name: str, seed: int, size: Mapping[str, int], sources: list[Path], tell: Tell) -> None:
        self.name = name
        self.seed = seed
        self.size = size
        self.sources = sources
        self.tell = tell
        self.rng = seeded(seed, name)
        self.runs = 0
        self.samples: list[float] = []
        self.notes: list[str] = []
        self.found: list[Violation] = []
        self.loads: list[Load] = []
        self._before: dict[str, Footprint] = {}
        self._tags = itertools.count()

    @property
    def violations(self) -> list[Violation]:
        return self.found + [each for load in self.loads for case in load.cases for each in case.violations]

    def wrong(self, kind: str, where: str, detail: str = "") -> None:
        self.found.append(Violation(kind, where, detail))

    def check(self, holds: bool, kind: str, detail: str) -> None:
        if not holds:
            self.wrong(kind, self.name, detail)

    def plan(self, count: int, rate: float | None = None, **more: Any) -> Plan:
        return Plan(f"g{next(self._tags)}", count, rate, **more)

    def plans(self, count: int, rate: float | None = None, **more: Any) -> Iterator[Plan]:
        while True:
            yield self.plan(count, rate, **more)

    def load(self, product: Fleet, nodes: Nodes | None = None, *, may_cut: bool = False) -> Load:
        load = Load(product, self.rng, nodes or Nodes(lambda: product.ports, may_cut=may_cut))
        self.loads.append(load)
        return load

    @contextlib.asynccontextmanager
    async def fleet(
        self,
        *,
        workers: int = 1,
        frontends: int = 1,
        port: int | None = None,
        config: dict[str, str] | None = None,
        **settings: str,
    ) -> AsyncIterator[Fleet]:
        """A product for this run; afterwards it must be back where it began, every process still the same."""
        async with fleet(
            self.sources, workers=workers, frontends=frontends, port=port, config=config or {}, **settings
        ) as product:
            await self.settle_in(product)
            try:
                yield product
                self.tell("back to the baseline?")
                for process in product.processes:
                    alive = process._process is not None and process._process.returncode is None
                    self.check(alive, "exit", f"a process ended by itself:\n{process.output[-1500:]}")
                if not self.violations:
                    self.found += await audit(product, self._before, self._tags_of(product))
            except BaseException:
                self.notes += [f"{path.name}: {path.read_text()[-1500:]}" for path in product.root.glob("*.log")]
                raise
            finally:
                self.found += [Violation("traceback", self.name, each) for each in product.tracebacks()[:2]]

    def _tags_of(self, product: Fleet) -> list[str]:
        return [case.plan.tag for load in self.loads if load.fleet is product for case in load.cases]

    async def settle_in(self, product: Fleet) -> None:
        """What its processes hold now is where they are to come back to."""
        self._before = await baseline(product)

    def excerpt(self) -> str:
        """What the violations look like: the first few, and a transcript of a reader that saw one."""
        lines = [f"  {each.kind}: {each.where}: {each.detail}" for each in self.violations[:8]]
        seen = [reader for load in self.loads for reader in load.readers if reader.violations]
        rewritten = [case for load in self.loads for case in load.cases if case.found]
        seen += [reader for case in rewritten[:1] for reader in case.readers]
        return "\n".join([*lines, *(reader.excerpt() for reader in seen[:3])])
