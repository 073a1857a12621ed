import pytest

from simulation.constants import policy, seconds
from simulation.faults import all_return, deploy, frontends_die, primary_fails_over, weighted_quantile, worker_dies
from simulation.storm import Balancing, Client, Storm, StormShape

SHAPE = StormShape(5, 1000, 0.4)


def assert_no_reader_is_lost_or_doubled(storm: Storm) -> None:
    """Each reader is at one frontend, or has lost its connection and waits."""
    connected = [reader for node in storm.nodes for reader in node.readers]
    assert len(connected) == len(set(connected)) == len(storm.node_of)
    assert {*connected, *storm.lost_at} == set(range(storm.shape.readers))
    assert not set(storm.lost_at) & set(storm.node_of)


@pytest.mark.parametrize("client", list(Client))
@pytest.mark.parametrize("balancing", list(Balancing))
def test_reader_is_at_one_frontend_or_on_its_way(client: Client, balancing: Balancing) -> None:
    storm = Storm(SHAPE._replace(client=client, balancing=balancing), watched_s=20.0)
    storm.simulation.at(1.0, storm.kill, storm.nodes[0])
    storm.simulation.at(1.5, storm.stop, storm.nodes[1], 10.0)
    for moment in (1.2, 1.6, 2.0, 3.0, 5.0, 8.0):
        storm.simulation.run(moment)
        assert_no_reader_is_lost_or_doubled(storm)
    storm.simulation.run(20.0)
    assert_no_reader_is_lost_or_doubled(storm)
    assert not storm.lost_at
    assert not storm.nodes[0].readers
    assert not storm.nodes[1].readers


def test_each_lost_connection_becomes_one_gap() -> None:
    found = frontends_die(SHAPE, 2, watched_s=30.0)
    assert (found.affected, found.left, found.is_over) == (400, 0, True)
    assert found.attempts == 400 + found.failed + found.refused + found.given_up


def test_same_seed_is_the_same_run() -> None:
    runs = [frontends_die(SHAPE, 1, watched_s=10.0, seed=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_first_backoff_is_a_quarter_to_half_a_second() -> None:
    found = all_return(StormShape(1, 1, 0.0), watched_s=5.0)
    assert 0.25 <= found.gaps[0] <= 0.52


def test_event_source_waits_for_three_seconds() -> None:
    found = all_return(StormShape(1, 1, 0.0, client=Client.EVENT_SOURCE), watched_s=5.0)
    assert found.gaps[0] == pytest.approx(3.0, abs=0.01)


def test_reader_without_a_place_is_refused_until_there_is_one() -> None:
    storm = Storm(StormShape(2, 200, 0.2, max_readers=120))
    storm.simulation.at(1.0, storm.kill, storm.nodes[0])
    storm.simulation.run(20.0)
    assert len(storm.lost_at) == 80
    refused = storm.counts.refused
    assert refused > 80 * 19 / (policy("hint_most_s") * 1.5)
    storm.start()
    storm.simulation.run(80.0)
    assert not storm.lost_at
    assert_no_reader_is_lost_or_doubled(storm)


def test_death_without_room_leaves_overloaded_cores() -> None:
    found = frontends_die(StormShape(3, 900, 0.7), 1, watched_s=30.0)
    assert not found.is_over
    assert found.overloaded == 2
    assert found.delay[1] > 0.5


def test_drain_spreads_its_hints() -> None:
    storm = Storm(StormShape(2, 2000, 0.1))
    storm.simulation.at(1.0, storm.stop, storm.nodes[0], 10.0)
    storm.simulation.run(9.5)
    assert not storm.nodes[0].readers
    assert max(storm.counts.attempts_by_second.values()) < 2 * 1000 / (policy("drain_share") * 10)
    assert storm.counts.failed == 0


def test_connections_delay_live_events_by_a_turn_at_most() -> None:
    found = all_return(StormShape(2, 4000, 0.3), watched_s=20.0)
    assert found.delay[1] == seconds("turn")
    assert found.is_over


def test_failover_has_every_reader_of_the_primary_resubscribe() -> None:
    found = primary_fails_over(StormShape(4, 1200, 0.3, primaries=3), 2.0, watched_s=20.0)
    assert found.affected == 400
    assert found.gaps[0] > 2.0
    assert found.is_over


def test_deploy_of_all_at_once_moves_each_reader_once() -> None:
    found = deploy(StormShape(10, 1000, 0.3), 10, 10.0)
    assert found.moves == 1.0
    assert found.outcome.left == 0


def test_deploy_in_waves_moves_readers_again_and_fewer_of_two_less_so() -> None:
    shape = StormShape(10, 2000, 0.3)
    in_turn = deploy(shape, 1, 10.0)
    fewer = deploy(shape._replace(balancing=Balancing.FEWER_OF_TWO), 1, 10.0)
    assert 1 < fewer.moves < in_turn.moves
    assert fewer.outcome.left == in_turn.outcome.left == 0


def test_worker_is_replaced_after_its_lease_and_a_sweep() -> None:
    found = worker_dies(50, 50, lease_s=6.0)
    assert 4.0 < found.p50 < found.longest < 6.0 + 1.25 * 6.0 / 4 + 0.2


def test_worker_without_free_places_leaves_generations_waiting() -> None:
    assert worker_dies(50, 20).waiting == 30
    assert worker_dies(50, 20, ends_each_s=1.0).longest > 30


def test_weights_count_in_a_quantile() -> None:
    assert weighted_quantile([(5.0, 1), (1.0, 98), (9.0, 1)], 0.99) == 5.0
    assert weighted_quantile([], 0.5) == 0.0
