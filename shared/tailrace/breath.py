"""What a busy process does less often, it does cheaper.

Few things are done at once, as they come. Many are done together: a wake-up, a read, a write and cold caches cost as
much for one as for ten. Nobody sees some milliseconds in a text that a model takes seconds to say.
"""

import time


class Breath:
    """Keeps things `gap_s` apart on average; some in a row may follow at once. (The GCRA of networks.)

    Where `each_s` is given, the gap is that times what was done at once, if it is more, and `longest_s` at most: the
    more there is to do, the more is done together.
    """

    __slots__ = ("_due", "_each_s", "_gap_s", "_longest_s", "_slack_s")

    def __init__(self, gap_s: float, in_a_row: int = 4, each_s: float = 0.0, longest_s: float = 0.0) -> None:
        self._gap_s = gap_s
        self._slack_s = in_a_row * gap_s
        self._each_s = each_s
        self._longest_s = max(gap_s, longest_s)
        self._due = 0.0

    def taken(self, count: int = 1) -> float:
        """So much is done now. Seconds to wait before the next; 0 or less: none."""
        now = time.monotonic()
        self._due = max(self._due, now) + min(max(self._gap_s, count * self._each_s), self._longest_s)
        return self._due - now - self._slack_s
