"""Tuning of the C library's allocator for a process that handles bodies of megabytes.

glibc gives a large buffer a mapping of its own: it grows without a copy, and is returned to the system when it is
freed. Smaller ones share a heap, which keeps its pages while anything behind them lives. glibc raises the limit between
both, up to 32 MiB, with each large buffer that is freed. A fixed limit, below the size of a request's head, prevents
that: 1,000 heads of 60 KB and then 50 bodies of 8 MiB took a frontend 45 MB instead of 91 MB (`scripts/hostile`).

With that limit, glibc raises the size of the free end of the heap that it keeps, to twice the limit. What it was raised
to before (while modules were imported) stays. Fixed as well, 200 answers of 300 KB at once made a frontend grow by 0.85
of their bytes at the peak instead of 1.02 (`scripts/bench --workload whole-answers`, 8 and 5 runs).
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM_THRESHOLD_BYTES = 128 * 1024
MMAP_THRESHOLD_BYTES = 32 * 1024


def tune_malloc() -> None:
    """Fix the threshold. Other C libraries have no `mallopt`, and nothing is done there."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
