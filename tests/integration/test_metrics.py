"""The metrics of a product that runs: both tiers export every metric, and agree with what clients see."""

import asyncio
import time

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.api import Api, eventually, scripted
from support.metrics import over_all, scrape, sums
from support.stack import Stack, stack
from tailrace.redis.server import RedisServer
from tailrace.stats.history_reader import HistoryReader, Slot
from tailrace.stats.slots import MINUTES, TEN_MINUTES
from tailrace.stats.table import PREFIX, metrics_of

STEPS = ({"tokens": {"count": 30, "rate": 60}}, {"delta": {}, "finish_reason": "stop"}, {"done": True})
COUNT = 12

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


def metric_names(text: str) -> set[str]:
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


async def test_both_tiers_export_every_metric_and_what_clients_have_seen() -> None:
    async with stack(workers=2, frontends=2, lease_s="1") as running, aiohttp.ClientSession() as http:
        apis = [Api(http, each.url) for each in running.frontends]
        ids = await asyncio.gather(*(apis[n % 2].create_scripted(*STEPS) for n in range(COUNT)))
        streams = await asyncio.gather(*(apis[n % 2].read(each) for n, each in enumerate(ids)))
        assert all(stream.kinds[-1] == "done" for stream in streams)
        assert (await apis[0].events(ids[0], f"?last_event_id={streams[0].parser.last_id}")).status == 204
        await apis[0].request("GET", "/v1/generations/nothing")
        texts = await scrape(running.metrics_ports)
        for text, tier in zip(texts, ("frontend", "frontend", "worker", "worker"), strict=True):
            assert metric_names(text) >= {PREFIX + metric.name for metric in metrics_of(tier)}  # type: ignore[arg-type]

        async def total(name: str, **labels: str) -> float:
            return await over_all(running.metrics_ports, PREFIX + name, **labels)

        async def both_workers_are_known() -> bool:
            return await over_all(running.metrics_ports, "tailrace_workers", max) == 2

        assert await total("generations_created_total") == COUNT
        assert await total("generations_total", status="completed", finish_reason="stop") == COUNT
        for name in ("e2e_latency", "time_to_first_token", "queue_time", "upstream_time_to_first_token"):
            assert await total(f"{name}_seconds_count") == COUNT
        assert await total("upstream_requests_total", code="200") == COUNT
        assert await total("inter_token_latency_seconds_count") == COUNT * 29, "between 30 tokens"
        assert await total("streams_opened_total") == COUNT
        assert await total("resumes_total", outcome="ended") == 1
        assert await total("requests_refused_total", status="404") == 1
        assert await total("delivery_lag_seconds_count") > COUNT
        assert await total("redis_connected", server="log") == 4
        assert await total("generations_running") == 0
        await eventually(both_workers_are_known)  # a busy one may miss heartbeats


async def test_worker_exports_the_remaining_limits_of_the_upstream() -> None:
    async with stack(workers=1, frontends=1, lease_s="1") as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        for left, shown in (("41", 41), ("40", 40), ("a few", 40)):
            head = {"head": {"x-ratelimit-remaining-requests": left, "x-ratelimit-remaining-tokens": "9" * 30}}
            await api.wait_for_result(await api.create_scripted(head, *STEPS))
            assert await over_all(running.metrics_ports, "tailrace_upstream_remaining_requests") == shown
        assert await over_all(running.metrics_ports, "tailrace_upstream_remaining_tokens") == 10**15 - 1


async def _slots(running: Stack, count: int) -> list[Slot]:
    server = RedisServer.connect(running.redis.url)
    try:
        return await HistoryReader(server).last(MINUTES, count)
    finally:
        await server.close()


async def test_history_is_whole_after_frontends_and_workers_were_restarted() -> None:
    async with stack(workers=1, frontends=1, lease_s="1") as running, aiohttp.ClientSession() as http:
        began = int(time.time()) // 60
        for turn in range(2):
            ids = await asyncio.gather(*(Api(http, running.url).create_scripted(*STEPS) for _ in range(COUNT)))
            await asyncio.gather(*(Api(http, running.url).read(each) for each in ids))
            for process in (*running.workers, *running.frontends):
                assert await process.stop() == 0
            minutes = await _slots(running, int(time.time()) // 60 - began + 1)
            expected = {"created": COUNT * (turn + 1), "ended:completed": COUNT * (turn + 1)}
            found = {name: sum(slot.counts.get(name, 0) for slot in minutes) for name in expected}
            assert found == expected
            assert sum(slot.histograms["ttft"].count for slot in minutes) == COUNT * (turn + 1)
            for process in (*running.workers, *running.frontends):
                await process.start()
            await running.frontends[0].ready()


async def test_history_has_a_route_for_those_who_run_the_installation() -> None:
    async with stack(workers=1, frontends=1, lease_s="1") as running, aiohttp.ClientSession() as http:
        api = Api(http, running.url)
        await api.read(await api.create_scripted(*STEPS))

        async def has_counts() -> bool:
            slots = (await api.request("GET", "/v1/admin/history")).value["slots"]
            assert len(slots) == MINUTES.kept
            newest = slots[-2:]
            return sum(slot["counts"].get("ended:completed", 0) for slot in newest) == 1 and any(
                slot["durations"]["ttft"]["p95"] for slot in newest
            )

        await eventually(has_counts, 30)
        days = (await api.request("GET", "/v1/admin/history?range=days")).value
        assert (days["seconds"], len(days["slots"])) == (TEN_MINUTES.seconds, TEN_MINUTES.kept)
        assert (await api.request("GET", "/v1/admin/history?range=year")).status == 400


async def test_model_that_a_caller_makes_up_is_no_label() -> None:
    async with stack(workers=1, frontends=1, models="small,m-*", lease_s="1") as running:
        async with aiohttp.ClientSession() as http:
            api = Api(http, running.url)
            for model in ("small", "m-1", "m-2"):
                await api.wait_for_result(await api.create(**{**scripted(*STEPS), "model": model}))
        text = (await scrape(running.metrics_ports))[-1]
        models = {
            sample.labels["model"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "model" in sample.labels
        }
        assert models == {"small", "other"}
        assert sums(text)["tailrace_e2e_latency_seconds_count"] == 3
