"""The audit of the metrics at a small size: each disturbance once."""

import pytest

from system.metrics_audit import audit

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


async def test_history_is_what_the_logs_have_within_a_hundredth() -> None:
    rows = await audit(generations=150, rounds=4)
    assert [str(row) for row in rows if row.error > 0.01] == []
    assert next(row.counted for row in rows if row.name == "created") == 150
