"""The tokens and the budgets that a caller has left, as this frontend knows them from its last creations.

All frontends share one count, in Redis. It is read with each creation, so the headers of its answer are exact; those of
other answers are as old as the caller's last creation at this frontend.
"""

import time
from typing import NamedTuple

from tailrace.log.spent import NANO
from tailrace.queue import LimitsOf, Quota

WARNED_PERCENT = 80
"""From such a part of a budget on, answers name it."""

KNOWN_CALLERS = 10_000


class TokenAllowance(NamedTuple):
    """The tokens that a caller may use: in a minute, at once, and the seconds until as many as ever."""

    limit: int
    remaining: int
    reset_s: float


class BudgetLeft(NamedTuple):
    """What is left of a budget: of which period and unit (`day`, `tokens`), in tokens or US dollars."""

    period: str
    unit: str
    left: float
    is_nearly_spent: bool


class TokenAllowances:
    """Of all callers of one frontend."""

    def __init__(self, limits_of: LimitsOf) -> None:
        self._limits_of = limits_of
        self._known: dict[str, tuple[Quota, float]] = {}

    def note(self, owner: str, quota: Quota) -> None:
        """Remember what a creation has found."""
        self._known.pop(owner, None)
        self._known[owner] = quota, time.monotonic()
        if len(self._known) > KNOWN_CALLERS:
            del self._known[next(iter(self._known))]

    def allowance(self, owner: str) -> TokenAllowance | None:
        """The tokens of this minute; None where the caller has no limit."""
        limit = self._limits_of(owner).tokens_per_minute
        if not limit:
            return None
        quota, at = self._known.get(owner, (Quota(), 0.0))
        owed = max(0.0, quota.minute - (time.monotonic() - at) * limit / 60)
        return TokenAllowance(limit, max(0, int(limit - owed)), 60 * owed / limit)

    def budgets_left(self, owner: str) -> list[BudgetLeft]:
        """What is left of each budget that the caller has, once it is known."""
        budgets = self._limits_of(owner).budgets
        if not budgets.are_set or owner not in self._known:
            return []
        used, left = self._known[owner][0].used, []
        for period in ("day", "month"):
            for name, unit, one in (("tokens", "tokens", 1), ("cost", "usd", NANO)):
                budget = getattr(budgets, f"{period}_{name}")
                if budget:
                    spent = getattr(used, f"{period}_{name}")
                    is_nearly_spent = 100 * spent >= WARNED_PERCENT * budget
                    left.append(BudgetLeft(period, unit, max(0, budget - spent) / one, is_nearly_spent))
        return left
