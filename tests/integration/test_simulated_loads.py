"""The trials with which `scripts/simulate` is calibrated and compared: the product under the simulator's loads."""

import pytest

from simulation.connecting import connection_costs
from simulation.measured import ROLES, measure
from simulation.path_load import PathShape

pytestmark = pytest.mark.long


async def test_trial_measures_every_role() -> None:
    trial = await measure(PathShape(frontends=2, logs=10, rate=20.0, readers=3), 1.0)
    assert set(trial.cores) == set(trial.idle) == set(trial.connect_us) == set(ROLES)
    assert trial.appended > 0
    assert 0 < trial.pipelines <= trial.appended
    assert 0 < trial.delivered <= 3 * (trial.appended + 10 * 20)  # some were appended before the window began
    assert 0 < trial.latency.p50 <= trial.latency.p99
    assert trial.delays


async def test_connections_cost_something() -> None:
    costs = await connection_costs()
    assert costs["connect"] > 0
    assert costs["refusal"] > 0
    assert all(cost >= 0 for cost in costs.values())
