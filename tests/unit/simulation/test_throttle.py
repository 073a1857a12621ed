import random
import time

import pytest

from simulation.engine import Simulation
from simulation.throttle import SimulatedThrottle
from tailrace.process.throttle import Throttle


@pytest.mark.parametrize(("each_s", "longest_s"), [(0.0, 0.0), (1 / 20_000, 0.04)])
def test_throttle_is_the_products(monkeypatch: pytest.MonkeyPatch, each_s: float, longest_s: float) -> None:
    simulation, chance = Simulation(), random.Random(1)
    monkeypatch.setattr(time, "monotonic", lambda: simulation.now)
    real = Throttle(0.002, each_s=each_s, longest_s=longest_s)
    simulated = SimulatedThrottle(simulation, 0.002, each_s=each_s, longest_s=longest_s)
    for _ in range(1000):
        simulation.run(simulation.now + chance.expovariate(400))
        count = chance.randrange(1, 1500)
        assert simulated.charge(count) == real.charge(count)
