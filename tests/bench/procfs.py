"""CPU and memory of processes, from Linux' /proc.

`utime + stime` of /proc/<pid>/stat counts all threads of a process, in clock ticks (10 ms): over a window of seconds
a noisy neighbour changes it little, where the wall clock would lie. Resident memory is `Rss` of smaps_rollup, which
counts pages exactly (VmRSS of `status` is batched a CPU).
"""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """A process and its living descendants: a server may do its work in children."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def cpu_s(pid: int) -> float:
    """Seconds of CPU, user and system, that a process and its living descendants have used."""
    return sum(_ticks(each) for each in family(pid)) / TICKS


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def rss_bytes(pid: int) -> int:
    """Resident memory of one process, bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"no Rss of {pid}")


def reset_peak(pid: int) -> None:
    """Begin to measure the peak of resident memory anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The greatest resident memory of one process since `reset_peak`, bytes. (VmHWM is batched a CPU: some 100 KB.)"""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise ValueError(f"no VmHWM of {pid}")
