"""Each primary of a cluster is tried, with keys of a slot of its own."""

from support.cluster import Cluster, slot_of
from support.slot_moves import abandon, begin
from tailrace.redis.check_steps import Uses
from tailrace.redis.cluster import RedisCluster
from tailrace.redis.server import RedisServer


async def test_fit_cluster_has_no_problems_and_keeps_nothing(cluster: Cluster) -> None:
    server = RedisCluster.connect(cluster.url)
    try:
        wrong, warnings = await server.problems()
        assert wrong == []
        assert {each.partition(": ")[0] for each in warnings} == {str(each) for each in await server.primaries()}
        for primary in await server.primaries():
            calls = (await primary.execute("INFO", "commandstats")).decode()
            assert "cmdstat_pexpiretime" in calls
            assert await primary.execute("DBSIZE") == 0
    finally:
        await server.close()


async def test_slot_that_is_being_moved_makes_no_primary_unfit(cluster: Cluster) -> None:
    server = RedisCluster.connect(cluster.url)
    try:
        primary, *_ = await server.primaries()
        slot = slot_of(f"{{{primary.tag}}}")
        nodes = await cluster.primaries()
        source = next(node for node in nodes if node.port == primary.address[1])
        target = next(node for node in nodes if node is not source)
        await begin(slot, source, target)
        assert (await server.problems())[0] == []
        await abandon(slot, source, target)
        assert (await server.problems())[0] == []
    finally:
        await server.close()


async def test_server_of_a_cluster_that_is_not_named_as_one_is_unfit(cluster: Cluster) -> None:
    found = [RedisServer.connect(f"redis://127.0.0.1:{node.port}/0") for node in await cluster.primaries()]
    try:
        wrong = [each for server in found for each in (await server.problems(Uses.LOG))[0]]
        assert len(wrong) == len(found)
        assert all("redis+cluster://" in each for each in wrong)
    finally:
        for server in found:
            await server.close()
