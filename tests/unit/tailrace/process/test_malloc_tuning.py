"""The allocator, tuned in a process of its own."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")

START = """
import ctypes, resource, sys
from pathlib import Path
from tailrace.process.malloc_tuning import tune_malloc
def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20
def tune():
    if sys.argv[1] == "tuned":
        tune_malloc()
"""

BUFFERS = (
    START
    + """
tune()
freed = bytearray(b"x") * 2**23
del freed
before, bodies, small = resident_mb(), [], []
for _ in range(30):
    bodies.append(bytearray(b"x") * 2**20)
    small.append(ctypes.create_string_buffer(2000))
bodies.clear()
print(resident_mb() - before)
"""
)
"""30 buffers of 1 MiB, with small ones between them."""

END_OF_HEAP = (
    START
    + """
freed = bytearray(b"x") * 2**23
del freed
tune()
before, small = resident_mb(), []
for _ in range(2000):
    small.append(ctypes.create_string_buffer(5000))
small.clear()
print(resident_mb() - before)
"""
)
"""10 MB in small buffers, after a large one was freed."""


def kept_mb(program: str, how: str) -> int:
    """Megabytes that stay resident after the program has freed its buffers."""
    result = subprocess.run([sys.executable, "-c", program, how], check=True, capture_output=True, text=True)
    return int(result.stdout)


def test_tuned_allocator_returns_freed_buffers_to_the_system() -> None:
    assert kept_mb(BUFFERS, "tuned") <= 2
    assert kept_mb(BUFFERS, "untuned") >= 8, "the C library does not need it any more"


def test_tuned_allocator_returns_the_free_end_of_the_heap() -> None:
    assert kept_mb(END_OF_HEAP, "tuned") <= 2
    assert kept_mb(END_OF_HEAP, "untuned") >= 8, "the C library does not need it any more"
