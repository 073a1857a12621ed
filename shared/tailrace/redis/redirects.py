"""The replies by which a server of a cluster refuses a command that another server takes."""

from tailrace.errors import RedisRefused, RedisUnavailable

Address = tuple[str, int]
"""A host and a port."""


class Redirected(RedisRefused):
    """The command's slot is on another server, which `address` names. `asking`: for this command alone, because the
    slot is being moved; the reply ASK of the Redis Cluster Specification, otherwise MOVED. The host is empty where the
    server that replied does not know its own."""

    def __init__(self, reply: str, *, asking: bool) -> None:
        slot, _, place = reply.partition(" ")
        host, _, port = place.partition(" ")[0].rpartition(":")
        self.slot = int(slot)
        self.address: Address = (host.strip("[]?"), int(port))
        self.asking = asking
        super().__init__(detail=f"slot {slot} is on {place}: the server is one of a cluster (redis+cluster://)")


class SlotUnavailable(RedisUnavailable):
    """The command's slot is between two servers, or on none: the replies TRYAGAIN and CLUSTERDOWN."""
