"""Three upstreams behind one name, real workers and a real frontend: what a client sees while upstreams fail."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.api import Api, body, eventually
from support.metrics import over_all
from support.stack import Stack, stack
from support.upstreams import NamedUpstream, named_upstreams, write_config
from system.upstream_kills import LIMIT, kill_under_load

FAILURES = 5
PROBE_S = 1.0


class Product:
    """Two workers and a frontend over `one`, `two` and `three`, which all serve `shared`."""

    def __init__(self, running: Stack, http: aiohttp.ClientSession, file: Path, *upstreams: NamedUpstream) -> None:
        self.stack = running
        self.api = Api(http, running.url)
        self.file = file
        self.one, self.two, self.three = upstreams

    async def generate(self, count: int, model: str = "shared") -> list[Any]:
        """The ends of so many generations that are created at the same time."""
        ids = await asyncio.gather(*(self.api.create(model=model) for _ in range(count)))
        return list(await asyncio.gather(*map(self.api.wait_for_result, ids)))

    async def metric(self, name: str, upstream: str) -> float:
        fold = max if name == "circuit_open" else sum
        return await over_all(self.stack.metrics_ports, f"tailrace_upstream_{name}", fold, upstream=upstream)

    async def reload(self, *tables: str) -> None:
        """Write the file and have every process read it."""
        write_config(self.file, *tables)
        for process in (*self.stack.workers, *self.stack.frontends):
            process.send(signal.SIGHUP)


@pytest.fixture
async def product(tmp_path: Path) -> AsyncIterator[Product]:
    upstreams = [NamedUpstream(name, words=3, delay_s=0.01) for name in ("one", "two", "three")]
    one, two, three = upstreams
    file = tmp_path / "tailrace.toml"
    async with named_upstreams(*upstreams), aiohttp.ClientSession() as http:
        write_config(
            file, one.table(models=["shared", "one-*"], aliases={"fast": "one-model"}, api_key_env="ONE_KEY"),
            two.table(), three.table(),
        )  # fmt: skip
        async with stack(
            workers=0, frontends=0, lease_s="1", circuit_failures=str(FAILURES), circuit_probe_s=str(PROBE_S)
        ) as running:  # fmt: skip
            running.environment |= {"TAILRACE_CONFIG": str(file), "ONE_KEY": "sk-key-of-one-0123456789"}
            await running.add_frontend()
            for _ in range(2):
                await running.add_worker()
            yield Product(running, http, file, *upstreams)
            for process in (*running.workers, *running.frontends):
                assert "Traceback" not in process.output
                assert "sk-key-of-one" not in process.output


async def test_upstream_dies_under_200_generations_and_none_fails(product: Product) -> None:
    results = asyncio.create_task(product.generate(200))
    await eventually(_async(lambda: product.one.calls >= 30))
    product.one.mode = "503"
    began = product.one.calls
    assert Counter(result["status"] for result in await results) == {"completed": 200}
    assert product.two.calls > 0
    await eventually(lambda: _is(product.metric("circuit_open", "one"), 1))
    before = product.one.calls
    ends = await product.generate(40)
    assert {result["status"] for result in ends} == {"completed"}
    probes = product.one.calls - before
    assert probes <= 2, "an open circuit lets no call through but the probe"
    assert began > 0
    # it recovers
    product.one.mode = "ok"
    recovered = time.monotonic()
    while await product.metric("circuit_open", "one"):
        await product.generate(2)
    assert time.monotonic() - recovered < 2 * PROBE_S + 1.5  # metrics are up to a second old


async def test_circuit_opens_within_the_failures_over_all_workers(product: Product) -> None:
    product.one.mode = "503"
    for _ in range(4 * FAILURES):
        (result,) = await product.generate(1)
        assert result["status"] == "completed"
        if "its circuit is open" in "".join(worker.output for worker in product.stack.workers):
            break
    assert product.one.calls == FAILURES
    assert sum(worker.output.count("its circuit is open") for worker in product.stack.workers) >= 1


async def test_models_are_those_of_all_upstreams_and_the_alias(product: Product) -> None:
    async def models() -> Any:
        listed = (await product.api.request("GET", "/v1/models")).value["data"]
        names = [each["id"] for each in listed]
        return names if "three-model" in names else None

    assert await eventually(models) == ["fast", "shared", "one-model", "two-model", "three-model"]
    (result,) = await product.generate(1, "fast")
    assert result["model"] == "fast"
    assert product.one.models_asked == ["one-model"]
    assert product.one.keys == {"Bearer sk-key-of-one-0123456789"}
    (result,) = await product.generate(1, "two-model")
    assert (product.one.calls, product.two.calls) == (1, 1)


async def test_file_is_read_again_on_sighup_and_a_wrong_one_changes_nothing(product: Product) -> None:
    (result,) = await product.generate(1)
    assert product.one.calls == 1
    for worker in product.stack.workers:
        await worker.wait_for_log("runs up to")  # before it has begun, the signal would end it
    await product.reload(product.one.table(models=["shared"]), "[[upstreams]]\nname = 7\n")
    for process in (*product.stack.workers, *product.stack.frontends):
        await process.wait_for_log(
            "line 7: name: it must be up to 64 letters, digits, `_`, `.` and `-`, in quotes; the upstreams that were"
        )
        assert " ERROR " in process.output
    (result,) = await product.generate(1, "two-model")
    assert (result["status"], product.two.calls) == ("completed", 1)
    await product.reload(product.three.table(models=["shared", "three-*"]))
    for process in (*product.stack.workers, *product.stack.frontends):
        await process.wait_for_log("again: three")
    (result,) = await product.generate(1)
    assert (result["status"], product.three.calls) == ("completed", 1)
    refused = await product.api.post(body(model="two-model"))
    assert refused.refusal == (404, "model_not_found")


async def test_processes_refuse_to_start_with_a_wrong_file_and_name_its_line(product: Product) -> None:
    write_config(product.file, product.one.table(profile="vlm"))
    for worker in product.stack.workers[:1]:
        await worker.stop()
        await worker.start()
        assert await worker.wait() == 2
        assert f"{product.file}: line 4: profile: there is no such profile" in worker.output
    frontend = product.stack.frontends[0]
    await frontend.stop()
    await frontend.start()
    assert await frontend.wait() == 2
    assert "line 4: profile" in frontend.output


@pytest.mark.long
async def test_limit_holds_while_workers_are_killed() -> None:
    result = await kill_under_load(4)
    assert result.most_in_use <= LIMIT
    assert result.most_in_use == LIMIT, "the load reached the limit"
    assert set(result.ends) == {"completed"}


def _async(condition: Any) -> Any:
    async def check() -> Any:
        return condition()

    return check


async def _is(value: Any, expected: float) -> bool:
    return bool(await value == expected)
