from prometheus_client.parser import text_string_to_metric_families

from support.logs import record
from support.named_logs import LOGS
from support.web import Web, until
from tailrace_frontend.metrics import Metrics

RECORD = record()


def told(metrics: Metrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name + str(sample.labels or ""): sample.value for each in families for sample in each.samples}


async def test_all_ten_are_there_from_the_start_each_with_its_help() -> None:
    metrics = Metrics(Web().hub)
    families = list(text_string_to_metric_families(metrics.text().decode()))
    assert {family.name for family in families} == {
        "tailrace_readers",
        "tailrace_tails",
        "tailrace_subscriber_connected",
        "tailrace_queued",
        "tailrace_workers",
        "tailrace_generations_created",
        "tailrace_streams_opened",
        "tailrace_streams_resumed",
        "tailrace_requests_refused",
        "tailrace_streams_deferred",
    }
    assert all(family.documentation for family in families)


async def test_readers_and_tails_are_those_of_the_hub_at_this_moment() -> None:
    web = Web()
    metrics = Metrics(web.hub)
    assert told(metrics)["tailrace_readers"] == 0
    await web.create(RECORD, LOGS["text"](RECORD)[:3])
    clients = [await web.read(RECORD), await web.read(RECORD)]
    assert (told(metrics)["tailrace_readers"], told(metrics)["tailrace_tails"]) == (2, 1)
    for client in clients:
        client.leave()
    await until(lambda: told(metrics)["tailrace_readers"] == 0)
    assert told(metrics)["tailrace_tails"] == 0
    await web.close()


async def test_the_subscriber_is_told_as_one_or_nought() -> None:
    web = Web()
    metrics = Metrics(web.hub)
    assert told(metrics)["tailrace_subscriber_connected"] == 0
    web.hub.subscriber.connected = True
    assert told(metrics)["tailrace_subscriber_connected"] == 1


async def test_refusals_are_counted_by_status() -> None:
    metrics = Metrics(Web().hub)
    for status in (404, 404, 503):
        metrics.refused.labels(status).inc()
    assert told(metrics)["tailrace_requests_refused_total{'status': '404'}"] == 2
    assert told(metrics)["tailrace_requests_refused_total{'status': '503'}"] == 1


async def test_two_in_one_process_do_not_share_their_figures() -> None:
    one, other = Metrics(Web().hub), Metrics(Web().hub)
    one.created.inc()
    assert told(one)["tailrace_generations_created_total"] == 1
    assert told(other)["tailrace_generations_created_total"] == 0
