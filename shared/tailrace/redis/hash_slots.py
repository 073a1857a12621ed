"""Hash slots of a cluster: which slot a key or channel is in, and which key a command has.

A cluster has 16,384 slots. That of a key is the CRC-16/XMODEM of its hash tag (the part between the first `{` and the
next `}`, if that is not empty; else the whole key), modulo 16,384 (Redis Cluster Specification, "Key distribution
model"). Python's `binascii.crc_hqx` computes that CRC.
"""

from binascii import crc_hqx
from functools import cache, lru_cache

from tailrace.scripts import Command

SLOTS = 16384


@lru_cache(maxsize=65536)
def slot_of(key: str) -> int:
    """The slot of a key or channel, 0 to 16,383."""
    start = key.find("{")
    if start >= 0:
        end = key.find("}", start)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS


def key_of(command: Command) -> str:
    """The first key or channel of a command of ours. Its others, if any, are in the same slot."""
    name = command[0]
    if name in ("EVALSHA", "EVAL"):
        return str(command[3])
    if name == "XREAD":
        return str(command[command.index("STREAMS") + 1])
    return str(command[1])


@cache
def tags() -> tuple[str, ...]:
    """A hash tag for each slot, by slot: the smallest number in that slot. (170,000 are tried, once, in 60 ms.)"""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOTS:
        tag = str(number)
        found.setdefault(crc_hqx(tag.encode(), 0) % SLOTS, tag)
        number += 1
    return tuple(found[slot] for slot in range(SLOTS))
