"""Generations with their readers, and one run of a scenario with everything that it found."""

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
from system.chaos_stack import ChaosStack, Topology, chaos_stack, seeded
from system.checker import Case, Plan, Violation
from system.readers import FrontendPorts, Reader
from system.wire_client import ask

Report = Callable[[str], None]
"""Shows how far a run is."""


class Load:
    """Creates generations on a stack, with readers. `ports`: the frontends that clients use."""

    def __init__(self, stack: ChaosStack, rng: random.Random, ports: FrontendPorts) -> None:
        self.stack = stack
        self.ports = ports
        self.cases: list[Case] = []
        self.accepted_at: dict[str, float] = {}
        self._rng = rng

    @property
    def readers(self) -> list[Reader]:
        return [reader for case in self.cases for reader in case.readers]

    async def create(self, plan: Plan, timeout_s: float = 30) -> Case:
        """Repeat the request until it is accepted, as a client with an Idempotency-Key may."""
        key, deadline = secrets.token_hex(8), time.monotonic() + timeout_s
        while True:
            status, answer = await ask(
                self.ports.next(), "POST", "/v1/generations", plan.body(), Idempotency_Key=key, timeout=10
            )
            if status == 202:
                break
            if status not in (0, 429, 503) or time.monotonic() > deadline:
                raise AssertionError(f"not accepted: {status} {answer}")
            await asyncio.sleep(0.1)
        case = Case(plan, answer["id"])
        self.cases.append(case)
        self.accepted_at[case.generation_id] = time.monotonic()
        return case

    def reader(self, case: Case, name: str, ports: FrontendPorts | None = None, **options: Any) -> Reader:
        name = f"{case.plan.tag} {name} {case.generation_id}"
        reader = Reader(name, case.plan, case.generation_id, ports or self.ports, **options)
        case.readers.append(reader)
        return reader

    async def play(self, plan: Plan, stay: int = 1, hop: int = 1, timeout_s: float = 60) -> Case:
        """Create, and read to the end with readers that stay and readers that disconnect and resume."""
        case = await self.create(plan)
        readers = [self.reader(case, f"stays {i}") for i in range(stay)]
        readers += [self.reader(case, f"hops {i}", hop=lambda: self._rng.randint(3, 30)) for i in range(hop)]
        await asyncio.gather(*(reader.read(timeout_s) for reader in readers))
        return case

    async def play_until(
        self, plans: Iterator[Plan], at_least: int, busy: Callable[[], bool], concurrency: int, **options: Any
    ) -> None:
        """Keep so many generations running until enough were created and no more faults are injected."""
        made = itertools.count(1)

        async def one_after_another() -> None:
            while next(made) <= at_least or busy():
                await self.play(next(plans), **options)

        async with asyncio.TaskGroup() as playing:
            for _ in range(concurrency):
                playing.create_task(one_after_another())

    async def reread(self) -> None:
        """Read every generation again from the start, and from its end: all readers must agree."""
        limit = asyncio.Semaphore(20)

        async def reread(case: Case) -> None:
            async with limit:
                await self.reread_case(case)

        await asyncio.gather(*map(reread, self.cases))
        for case in self.cases:
            case.compare()

    async def reread_case(self, case: Case) -> None:
        late = self.reader(case, "is late")
        await late.read(20)
        if late.done is None:
            return
        path, end = f"/v1/generations/{case.generation_id}", late.received[-1].event.id or ""
        answer: Any
        status, answer = await ask(
            self.ports.next(), "GET", f"{path}/events", Last_Event_ID=end, Accept="text/event-stream"
        )
        if status not in (204, 0):
            case.found.append(Violation("end", case.plan.tag, f"to a cursor at the end: {status}, {answer!r:.500}"))
        status, answer = await ask(self.ports.next(), "GET", path)
        if status == 200 and answer["status"] != late.done["status"]:
            case.found.append(Violation("two ends", case.plan.tag, f"{answer['status']}, {late.done['status']}"))


class Run:
    """One run of one scenario: its seed and size, and its results."""

    def __init__(
        self, name: str, seed: int, size: Mapping[str, int], sources: list[Path], report: Report,
        topology: Topology = "server",
    ) -> None:  # fmt: skip
        self.name = name
        self.topology = topology
        self.seed = seed
        self.size = size
        self.sources = sources
        self.report = report
        self.rng = seeded(seed, name)
        self.runs = 0
        self.samples: list[float] = []
        self.notes: list[str] = []
        self.found: list[Violation] = []
        self.loads: list[Load] = []
        self._logged: list[str] = []
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

    def load(self, stack: ChaosStack, *, may_cut: bool = False) -> Load:
        load = Load(stack, self.rng, FrontendPorts(lambda: stack.ports, may_cut=may_cut))
        self.loads.append(load)
        return load

    @contextlib.asynccontextmanager
    async def stack(
        self,
        *,
        workers: int = 1,
        frontends: int = 1,
        config: dict[str, str] | None = None,
        two_servers: bool = False,
        **settings: str,
    ) -> AsyncIterator[ChaosStack]:
        """A product for this run; afterwards every process must be alive and hold no more than before."""
        async with chaos_stack(
            self.sources,
            workers=workers,
            frontends=frontends,
            config=config or {},
            two_servers=two_servers,
            topology=self.topology,
            **{"log_format": self.rng.choice(("text", "json"))} | settings,
        ) as product:
            await self.take_baseline(product)
            try:
                yield product
                self.report("waits for the baseline")
                for process in product.processes:
                    alive = process._process is not None and process._process.returncode is None
                    self.check(alive, "exit", f"a process exited by itself:\n{process.output[-1500:]}")
                if not self.violations:
                    self.found += await audit(
                        product, self._before, self._tags_of(product), self._vanished_from(product)
                    )
            except BaseException:
                self.notes += [f"{path.name}: {path.read_text()[-1500:]}" for path in product.root.glob("*.log")]
                raise
            finally:
                self.found += [Violation("leak", self.name, each) for each in product.leaks()[:2]]
                self.found += [Violation("traceback", self.name, each) for each in product.tracebacks()[:2]]
                self._logged += [line for case in self._wrong_cases(product) for line in product.lines_about(case)]

    def _wrong_cases(self, product: ChaosStack) -> list[str]:
        """The first generations with a violation."""
        cases = [case for load in self.loads if load.stack is product for case in load.cases]
        return [case.generation_id for case in cases if case.violations][:3]

    def _tags_of(self, product: ChaosStack) -> list[str]:
        return [case.plan.tag for load in self.loads if load.stack is product for case in load.cases]

    def _vanished_from(self, product: ChaosStack) -> list[str]:
        """The generations that a reader has read as gone."""
        cases = [case for load in self.loads if load.stack is product for case in load.cases]
        return [case.generation_id for case in cases if any(reader.vanished for reader in case.readers)]

    async def take_baseline(self, product: ChaosStack) -> None:
        """Take what the idle processes hold now as the baseline."""
        self._before = await baseline(product)

    def excerpt(self) -> str:
        """The first few violations, transcripts of readers that saw one, and what the processes logged about them."""
        lines = [f"  {each.kind}: {each.where}: {each.detail}" for each in self.violations[:8]]
        seen = [reader for load in self.loads for reader in load.readers if reader.violations]
        rewritten = [case for load in self.loads for case in load.cases if case.found]
        seen += [reader for case in rewritten[:1] for reader in case.readers]
        return "\n".join([*lines, *(reader.excerpt() for reader in seen[:3]), *self._logged])
