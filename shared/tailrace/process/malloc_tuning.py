"""Tuning of the C library's allocator for a process that handles bodies of megabytes.

glibc gives a large buffer a mapping of its own: it grows without a copy, and is returned to the system when it is
freed. Smaller ones share a heap, which keeps its pages while anything behind them lives. glibc raises the limit between
both, up to 32 MiB, with each large buffer that is freed. A fixed limit, below the size of a request's head, prevents
that: 1,000 heads of 60 KB and then 50 bodies of 8 MiB took a frontend 45 MB instead of 91 MB (`scripts/hostile`).
"""

import ctypes

M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = 32 * 1024


def tune_malloc() -> None:
    """Fix the threshold. Other C libraries have no `mallopt`, and nothing is done there."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
