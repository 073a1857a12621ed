from prometheus_client.parser import text_string_to_metric_families

from support.hub_harness import HubHarness, until
from support.logs import record
from support.named_logs import LOGS
from tailrace_frontend.metrics import Metrics

RECORD = record()


def samples(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name + str(sample.labels or ""): sample.value for each in families for sample in each.samples}


def readers(metrics: Metrics) -> dict[str, float]:
    values = samples(metrics)
    states = ("live", "catching_up", "blocked", "waiting")
    return {state: count for state in states if (count := values[f"tailrace_readers{{'state': '{state}'}}"])}


async def test_readers_and_live_logs_are_the_current_ones_of_the_hub() -> None:
    harness = HubHarness()
    metrics = Metrics(harness.hub)
    assert readers(metrics) == {}
    await harness.create(RECORD, LOGS["text"](RECORD)[:3])
    clients = [await harness.connect(RECORD), await harness.connect(RECORD)]
    await until(lambda: readers(metrics) == {"live": 2})
    assert samples(metrics)["tailrace_live_logs"] == 1
    clients[0].flow.pause_writing()
    clients[0].stream.wake()
    await until(lambda: readers(metrics) == {"live": 1, "blocked": 1})
    for client in clients:
        client.disconnect()
    await until(lambda: readers(metrics) == {})
    assert samples(metrics)["tailrace_live_logs"] == 0
    await harness.close()


async def test_subscriber_state_is_one_or_zero() -> None:
    harness = HubHarness()
    metrics = Metrics(harness.hub)
    assert samples(metrics)["tailrace_subscriber_connected"] == 0
    harness.reconnect()
    assert samples(metrics)["tailrace_subscriber_connected"] == 1


async def test_error_responses_are_counted_by_status() -> None:
    metrics = Metrics(HubHarness().hub)
    for status in (404, 404, 503):
        metrics.refused(status)
    assert samples(metrics)["tailrace_requests_refused_total{'status': '404'}"] == 2
    assert samples(metrics)["tailrace_requests_refused_total{'status': '503'}"] == 1


async def test_what_the_deployment_has_is_unknown_until_it_was_read() -> None:
    metrics = Metrics(HubHarness().hub)
    values = samples(metrics)
    assert values["tailrace_generations_waiting"] != values["tailrace_generations_waiting"]
    metrics.queued, metrics.oldest_wait_s, metrics.workers = 3, 4.5, 2
    assert samples(metrics)["tailrace_generations_waiting"] == 3
    assert samples(metrics)["tailrace_oldest_wait_seconds"] == 4.5
    assert samples(metrics)["tailrace_workers"] == 2


async def test_registries_of_one_process_are_separate() -> None:
    one, other = Metrics(HubHarness().hub), Metrics(HubHarness().hub)
    one.streams.inc()
    assert samples(one)["tailrace_streams_opened_total"] == 1
    assert samples(other)["tailrace_streams_opened_total"] == 0
