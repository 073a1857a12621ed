"""The cyclic garbage collector, tuned in a process of its own."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from tailrace.process.gc_tuning import YOUNG, tune_gc
tune_gc()
assert gc.isenabled() and gc.get_freeze_count() > 1000 and gc.get_threshold()[0] == YOUNG
class Cycle:
    def __init__(self): self.me = self
dead = weakref.ref(Cycle())
assert dead() is not None
kept = [[] for _ in range(2 * YOUNG)]
assert dead() is None
"""


def test_tuned_collector_freezes_existing_objects_and_collects_new_cycles() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)
