"""Reads what `/metrics` answers."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


def sums(text: str) -> dict[str, float]:
    """The value of each sample, added up over its labels; of buckets, those of all bounds."""
    values: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] += sample.value
    return values


async def scrape(ports: Iterable[int]) -> list[str]:
    """The metrics of processes by their ports; a process that does not answer has none."""
    texts = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as http:
        for port in ports:
            try:
                async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    texts.append(await answer.text())
            except (aiohttp.ClientError, TimeoutError):
                texts.append("")
    return texts


async def over_all(
    ports: Iterable[int], name: str, fold: Callable[[Iterable[float]], float] = sum, /, **labels: str
) -> float:
    """One metric over all processes, of the samples with these labels."""
    found = [
        sample.value
        for text in await scrape(ports)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return fold(found or [0.0])
