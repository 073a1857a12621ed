"""The balancer of the scenario `rollouts`: it lags, keeps connections where they are, and counts what it refuses."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from system.rollout_faults import busiest_second
from system.service_balancer import ServiceBalancer, service_balancer

LAG_S = 0.3


class Pod:
    """Answers probes, and sends back what any other connection sends."""

    def __init__(self) -> None:
        self.port = 0
        self.is_ready = True
        self.not_ready_at = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(1000)
        if data.startswith(b"GET /readyz"):
            writer.write(b"HTTP/1.1 %d -\r\ncontent-length: 0\r\n\r\n" % (200 if self.is_ready else 503))
            if not self.is_ready:
                self.not_ready_at = time.monotonic()
        while data and not data.startswith(b"GET"):
            writer.write(data)
            data = await reader.read(1000)
        writer.close()


@contextlib.asynccontextmanager
async def running_pod() -> AsyncIterator[Pod]:
    pod = Pod()
    server = await asyncio.start_server(pod.serve, "127.0.0.1", 0)
    pod.port = server.sockets[0].getsockname()[1]
    yield pod
    server.close()


@pytest_asyncio.fixture
async def balancer() -> AsyncIterator[ServiceBalancer]:
    async with service_balancer(LAG_S, random.Random(1)) as balancer:
        yield balancer


async def until_endpoints(balancer: ServiceBalancer, *ports: int) -> None:
    async with asyncio.timeout(20):
        while balancer.endpoints != set(ports):  # noqa: ASYNC110 - it probes
            await asyncio.sleep(0.01)


async def test_connections_go_to_a_pod_until_the_lag_after_its_readiness_fell(balancer: ServiceBalancer) -> None:
    async with running_pod() as pod:
        balancer.add(pod.port)
        await until_endpoints(balancer, pod.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
        writer.write(b"one")
        assert await reader.read(3) == b"one"
        pod.is_ready = False
        await until_endpoints(balancer)
        assert time.monotonic() - pod.not_ready_at >= LAG_S - 0.05
        writer.write(b"two")
        assert await reader.read(3) == b"two", "a connection stays where it is"
        writer.close()
        assert balancer.refused == 0


async def test_connection_without_a_pod_is_refused_and_counted(balancer: ServiceBalancer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert balancer.refused == 1


async def test_pod_that_is_gone_and_not_noticed_yet_costs_an_error(balancer: ServiceBalancer) -> None:
    async with running_pod() as pod:
        balancer.add(pod.port)
        await until_endpoints(balancer, pod.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", balancer.port)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert balancer.refused == 1


@pytest.mark.parametrize(
    ("times", "most"), [([], 0), ([1], 1), ([1, 2.5, 4], 1), ([1, 1.2, 1.9, 2.3, 2.8], 3), ([0, 1, 1.01], 2)]
)
def test_busiest_second_has_the_most_times_within_a_second(times: list[float], most: int) -> None:
    assert busiest_second(times) == most
