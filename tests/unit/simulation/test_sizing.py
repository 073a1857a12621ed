import pytest

from simulation.constants import path_costs, policy
from simulation.live_path import LivePath
from simulation.path_load import PathShape
from simulation.sizing import (
    FleetLoad,
    FleetShape,
    connections,
    frontend_cpu,
    memory_redis,
    redis,
    rounds,
    smallest,
    use,
)
from simulation.sizing_tables import in_cells, limit

ONE = FleetShape(1, 1, 1)


@pytest.mark.parametrize("frontends", [1, 2, 4])
def test_steady_load_is_the_live_path_in_the_mean(frontends: int) -> None:
    """Both models, 4,000 tokens a second. (The live path's costs are those of processes that pause for 2 ms.)"""
    result = LivePath(PathShape(frontends, 200, 20.0), path_costs(), None).run(0.5, 2.0)
    load, fleet = FleetLoad(200, rate=20), FleetShape(frontends, 1, 1)
    assert frontends * frontend_cpu(load, fleet) == pytest.approx(result.cpu_s["frontend"] / 2.0, rel=0.1)
    assert redis(load, fleet)[0] == pytest.approx(result.cpu_s["redis"] / 2.0, rel=0.1)


@pytest.mark.parametrize("load", [FleetLoad(1000), FleetLoad(5000), FleetLoad(100_000, 0.05), FleetLoad(0, unread=500)])
def test_smallest_fleet_suffices(load: FleetLoad) -> None:
    fleet = smallest(load)
    used = use(load, fleet)
    assert max(used.redis_cpu, used.frontend_cpu, used.worker_cpu) <= policy("used") + 1e-9
    assert used.frontend_readers <= 1


@pytest.mark.parametrize("load", [FleetLoad(1000), FleetLoad(3000), FleetLoad(20_000, 0.05)])
def test_fleet_with_one_process_less_does_not_suffice(load: FleetLoad) -> None:
    """With a step of a quarter at a time, a large fleet may have a few more than the least."""
    fleet = smallest(load)
    for kind in fleet._fields:
        less = fleet._replace(**{kind: getattr(fleet, kind) - 1})
        if getattr(less, kind) > 0:
            used = use(load, less)
            most = max(used.redis_cpu, used.frontend_cpu, used.worker_cpu)
            assert most > policy("used") or used.frontend_readers > 1, (kind, less, used)


def test_cells_have_one_primary() -> None:
    cells, cell = in_cells(FleetLoad(10_000))
    assert cell.primaries == 1
    assert use(FleetLoad(10_000 / cells), cell).redis_cpu <= policy("used")


def test_connections_of_a_primary_are_two_for_each_process() -> None:
    assert connections(FleetShape(8, 4, 3)) == 24


def test_merged_tokens_are_fewer_appends() -> None:
    calm, busy = rounds(FleetLoad(100), ONE), rounds(FleetLoad(600, rate=50), ONE)
    assert calm.a_second == pytest.approx(500, rel=0.01)
    assert calm.appends == pytest.approx(4000, rel=0.05)
    assert busy.a_second == pytest.approx(57, rel=0.05)
    assert busy.appends == pytest.approx(20_000, rel=0.01)


def test_silent_fleet_has_keep_alives_and_positions() -> None:
    used = use(FleetLoad(10_000, 0.0), FleetShape(1, 1, 1))
    assert 0 < used.frontend_cpu < 0.1
    assert 0 < used.redis_cpu < 0.1
    assert used.worker_cpu == 0


def test_memory_is_that_of_the_answers_that_are_kept() -> None:
    load = FleetLoad(1000)
    ends = load.tokens / policy("answer_tokens")
    assert memory_redis(load, 3600) - memory_redis(load, 0) == pytest.approx(ends * 3600 * 16_500, rel=0.01)


def test_limit_is_the_load_at_which_a_resource_is_used_up() -> None:
    fleet = FleetShape(1, 2, 1)
    readers, resource = limit(FleetLoad(1), fleet, 0.7)
    assert resource == "frontend_cpu"
    assert use(FleetLoad(readers), fleet).frontend_cpu == pytest.approx(0.7, rel=0.03)
