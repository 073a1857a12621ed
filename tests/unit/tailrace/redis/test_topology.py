"""The topology, as servers of several versions report it."""

from support.scripted_cluster import node, shard
from tailrace.redis.topology import Topology

ASKED = ("asked", 7000)


def test_slots_belong_to_the_primary_of_their_shard() -> None:
    shards = [
        shard([0, 99, 200, 299], [node(1), node(2, role="replica")]),
        shard([100, 199], [node(4, role="replica"), node(3)]),
    ]
    found = Topology.of(shards, ASKED, tls=False)
    assert found.slots == {("h", 1): [range(100), range(200, 300)], ("h", 3): [range(100, 200)]}
    assert sorted(found.nodes) == [("h", port) for port in (1, 2, 3, 4)]


def test_promoted_replica_has_the_slots_beside_its_failed_primary() -> None:
    """Valkey lists both as primaries of one shard."""
    shards = [shard([0, 99], [node(1, health="fail"), node(2)])]
    assert Topology.of(shards, ASKED, tls=False).slots == {("h", 2): [range(100)]}


def test_failed_primary_keeps_its_slots_until_another_is_promoted() -> None:
    shards = [shard([0, 99], [node(1, health="fail"), node(2, role="replica")])]
    assert Topology.of(shards, ASKED, tls=False).slots == {("h", 1): [range(100)]}


def test_shard_without_slots_has_no_primary() -> None:
    """Redis 7 puts a failed primary into a shard of its own."""
    shards = [shard([], [node(1, health="fail")]), shard([0, 99], [node(2)])]
    found = Topology.of(shards, ASKED, tls=False)
    assert found.slots == {("h", 2): [range(100)]}
    assert ("h", 1) in found.nodes


def test_server_without_an_endpoint_is_at_the_host_that_was_asked() -> None:
    shards = [shard([0, 9], [node(1, endpoint="")]), shard([10, 19], [node(2, endpoint="?")])]
    assert set(Topology.of(shards, ASKED, tls=False).slots) == {("asked", 1), ("10.0.0.1", 2)}


def test_encrypted_connections_lead_to_the_port_for_them() -> None:
    shards = [shard([0, 9], [node(1, tls_port=11)]), shard([10, 19], [node(2)])]
    found = Topology.of(shards, ASKED, tls=True)
    assert set(found.slots) == {("h", 11)}
    assert found.nodes == [("h", 11)]
