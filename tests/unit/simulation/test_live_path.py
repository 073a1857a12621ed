from collections import Counter

import pytest

from simulation.constants import path_costs
from simulation.live_path import LivePath
from simulation.path_load import PathShape, Token

COSTS = path_costs()
DELAYS = [0.0, 0.0, 0.0001, 0.002]


def run(shape: PathShape, seed: int = 1, cores: float | None = 2.0) -> tuple[LivePath, list[tuple[int, Token]]]:
    delivered: list[tuple[int, Token]] = []
    path = LivePath(
        shape, COSTS, cores, seed=seed, delays=DELAYS, deliver=lambda client, token: delivered.append((client, token))
    )
    path.simulation.run(0.4)
    return path, delivered


@pytest.mark.parametrize("frontends", [1, 2, 4])
@pytest.mark.parametrize(("logs", "rate", "readers"), [(50, 40.0, 1), (10, 100.0, 7), (3, 400.0, 40)])
def test_each_reader_gets_every_token_of_its_log_once_in_order(
    frontends: int, logs: int, rate: float, readers: int
) -> None:
    """The last load is more than two cores can deliver."""
    _, delivered = run(PathShape(frontends, logs, rate, readers))
    numbers: dict[int, list[int]] = {}
    for client, token in delivered:
        assert client // readers == token.log
        numbers.setdefault(client, []).append(token.number)
    assert len(numbers) == logs * readers
    for received in numbers.values():
        assert received == list(range(len(received)))


def test_what_is_not_delivered_is_under_way() -> None:
    """A calm load: every token that is older than 50 ms has reached its reader."""
    path, delivered = run(PathShape(2, 50, 20.0))
    made = int(0.35 * 50 * 20)
    assert len({(token.log, token.number) for _, token in delivered if token.at < 0.35}) == pytest.approx(made, abs=1)
    assert path.simulation.now == 0.4


def test_same_seed_is_the_same_run_and_another_is_not() -> None:
    one, same, other = (run(PathShape(2, 50, 20.0), seed)[1] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_cpu_is_what_was_counted_times_the_costs() -> None:
    path = LivePath(PathShape(2, 50, 40.0, 3), COSTS, None)
    result = path.run(0.2, 1.0)
    window = result.window
    expected = window.reads * COSTS.read_s + window.writes * (COSTS.frame_s + COSTS.write_s)
    expected += window.writes / 3 * 2 * COSTS.message_s
    assert result.cpu_s["frontend"] == pytest.approx(expected + 2 * COSTS.frontend_idle, rel=0.02)
    assert result.delivered == pytest.approx(window.appended * 3, rel=0.02)


def test_clients_are_spread_over_the_frontends() -> None:
    path = LivePath(PathShape(4, 5, 1.0, 7), COSTS, None)
    places = Counter(client for log in range(5) for frontend in range(4) for client in path.clients_of(log, frontend))
    assert places == Counter(range(35))
    assert {client % 4 for log in range(5) for client in path.clients_of(log, 3)} == {3}


def test_pipelines_keep_the_products_interval() -> None:
    result = LivePath(PathShape(1, 200, 20.0), COSTS, None).run(0.5, 1.0)
    assert result.window.pipelines == pytest.approx(500, rel=0.02)
    assert result.window.reads == pytest.approx(500, rel=0.02)


def test_load_beyond_the_cores_is_not_delivered_in_time() -> None:
    shape = PathShape(1, 20, 200.0, 25)
    calm, busy = (LivePath(shape, COSTS, cores).run(0.2, 0.5) for cores in (None, 0.5))
    assert busy.delivered < 0.7 * calm.delivered
    assert sum(busy.cpu_s.values()) <= 0.5 * busy.seconds + 2 * COSTS.frontend_idle
