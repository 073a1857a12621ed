import time

import pytest

from tailrace.log.spent import NANO
from tailrace.queue import Budgets, CallerLimits, Quota
from tailrace.settings import Settings
from tailrace_frontend import token_allowances as module
from tailrace_frontend.token_allowances import BudgetLeft, TokenAllowances


def allowances(**settings: float) -> TokenAllowances:
    limits = CallerLimits.of(Settings(**settings))  # type: ignore[arg-type]
    return TokenAllowances(lambda _: limits)


def test_tokens_return_as_they_are_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tokens = allowances(max_tokens_per_minute_per_caller=600)
    assert tokens.allowance("anna") == (600, 600, 0.0)
    tokens.note("anna", Quota(minute=610))
    assert tokens.allowance("anna") == (600, 0, 61.0)
    now[0] += 31
    assert tokens.allowance("anna") == (600, 300, 30.0)
    assert tokens.allowance("berta") == (600, 600, 0.0)


def test_caller_without_limits_has_no_allowance() -> None:
    tokens = allowances()
    tokens.note("anna", Quota(minute=5))
    assert tokens.allowance("anna") is None
    assert tokens.budgets_left("anna") == []


def test_what_is_left_of_each_budget_is_known_after_a_creation() -> None:
    tokens = allowances(budget_day_tokens_per_caller=1000, budget_month_usd_per_caller=2)
    assert tokens.budgets_left("anna") == []
    tokens.note("anna", Quota(used=Budgets(799, 0, 900, 3 * NANO)))
    assert tokens.budgets_left("anna") == [BudgetLeft("day", "tokens", 201, False), BudgetLeft("month", "usd", 0, True)]
    tokens.note("anna", Quota(used=Budgets(800, 0, 900, NANO)))
    assert tokens.budgets_left("anna") == [BudgetLeft("day", "tokens", 200, True), BudgetLeft("month", "usd", 1, False)]


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_CALLERS", 2)
    tokens = allowances(max_tokens_per_minute_per_caller=60)
    for name in ("anna", "berta", "cora"):
        tokens.note(name, Quota(minute=60))
    assert tokens.allowance("anna") == (60, 60, 0.0)
    assert len(tokens._known) == 2
