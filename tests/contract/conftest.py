"""A cluster for all tests of one process. A test leaves every slot where it was, and all nodes alive."""

import asyncio
from collections.abc import Iterator

import pytest

from support.cluster import Cluster


@pytest.fixture(scope="session")
def formed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("cluster"), config={"appendonly": "no", "cluster-node-timeout": "4000"})
    try:
        asyncio.run(found.form())
        yield found
    finally:
        found.kill()


@pytest.fixture
async def cluster(formed_cluster: Cluster) -> Cluster:
    """It has no keys at the start of each test."""
    for node in await formed_cluster.primaries():
        await node.execute("FLUSHALL")
    return formed_cluster
