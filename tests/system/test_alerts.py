"""Three of the faults of `scripts/chaos --alerts`: one of each tier, and one of Redis.

That no other alert fires is judged there: on a machine that does other work at the same time, some fire with reason.
"""

import pytest

from support.prometheus import MISSING, is_installed
from system.alerts import judge

pytestmark = [pytest.mark.long, pytest.mark.timeout(240), pytest.mark.skipif(not is_installed(), reason=MISSING)]


@pytest.mark.parametrize("name", ["worker-killed", "redis-killed", "subscriptions-refused"])
async def test_fault_fires_the_alert_that_is_meant(name: str) -> None:
    verdict = await judge(name)
    assert verdict.took_s is not None, str(verdict)
    assert not verdict.before, str(verdict)
