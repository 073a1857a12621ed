"""The collector of cycles, where it runs in a process of its own."""

import subprocess
import sys

LOOK = """
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


def test_what_is_there_is_left_alone_and_new_cycles_are_still_collected() -> None:
    subprocess.run([sys.executable, "-c", LOOK], check=True)
