"""Which server of a cluster has which slots, as one of them reports (`CLUSTER SHARDS`, Redis >= 7 and Valkey)."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tailrace.redis.redirects import Address

FAILED = (b"fail", b"failed")


class Topology(NamedTuple):
    """`slots`: of each primary that has some. `nodes`: every server that can be asked, replicas too. `failed`: those
    primaries that do not respond to the others."""

    slots: dict[Address, list[range]]
    nodes: list[Address]
    failed: frozenset[Address] = frozenset()

    @classmethod
    def of(cls, shards: Sequence[Sequence[Any]], asked: Address, *, tls: bool) -> "Topology":
        """From the reply of the server at `asked`, whose host is taken where a server has no name of its own.

        A shard whose primary has failed is listed with that one until a replica has been promoted, and then with both.
        """
        slots: dict[Address, list[range]] = {}
        nodes, failed = list[Address](), set[Address]()
        for shard in map(_fields, shards):
            members = [_fields(node) for node in shard[b"nodes"]]
            addresses = [_address(member, asked, tls=tls) for member in members]
            nodes += [each for each in addresses if each]
            found = list(_ranges(shard[b"slots"]))
            primary = _primary(members)
            address = addresses[primary] if primary is not None else None
            if primary is not None and found and address:
                slots.setdefault(address, []).extend(found)
                if members[primary][b"health"] in FAILED:
                    failed.add(address)
        return cls(slots, nodes, frozenset(failed))


def _fields(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _ranges(flat: Sequence[int]) -> Iterable[range]:
    return (range(int(first), int(last) + 1) for first, last in zip(flat[::2], flat[1::2], strict=True))


def _primary(members: Sequence[dict[bytes, Any]]) -> int | None:
    """The index of the primary; of two, the one that has not failed."""
    primaries = [index for index, member in enumerate(members) if member[b"role"] == b"master"]
    alive = [index for index in primaries if members[index][b"health"] not in FAILED]
    return next(iter(alive or primaries), None)


def _address(member: dict[bytes, Any], asked: Address, *, tls: bool) -> Address | None:
    """None where the server has no port of this kind. `endpoint` is what the operator prefers: empty, where that is the
    host by which the client came, and `?`, where that is a name that was not set."""
    port = member.get(b"tls-port") if tls else member.get(b"port")
    endpoint = member.get(b"endpoint") or b""
    host = (member.get(b"ip") or b"") if endpoint == b"?" else endpoint
    return (host.decode() or asked[0], int(port)) if port else None
