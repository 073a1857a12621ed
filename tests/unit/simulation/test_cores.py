"""Queues against closed forms: Little's law, and Pollaczek and Khinchine's for Poisson arrivals and a fixed service."""

import pytest

from simulation.constants import seconds
from simulation.cores import Cores, Process
from simulation.engine import Simulation
from simulation.nodes import Core

ARRIVALS = 20_000


class Queue:
    """Poisson arrivals at one process. `waited`: from an arrival to the beginning of its service."""

    def __init__(self, load: float) -> None:
        self.simulation = Simulation(3)
        self.process = Process(Cores(self.simulation, 1))
        self.load = load
        self.waited: list[float] = []
        self.area = self.since = 0.0
        self.present = 0
        self.simulation.at(0.0, self.arrive, ARRIVALS)

    def account(self) -> None:
        self.area += self.present * (self.simulation.now - self.since)
        self.since = self.simulation.now

    def arrive(self, left: int) -> None:
        arrived = self.simulation.now

        def done() -> None:
            self.account()
            self.present -= 1
            self.waited.append(self.simulation.now - arrived - 1.0)

        self.account()
        self.process.do(1.0, done)
        self.present += 1
        assert self.present == self.process.waiting
        if left > 1:
            self.simulation.after(self.simulation.random.expovariate(self.load), self.arrive, left - 1)


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_queue_is_that_of_an_m_d_1(load: float) -> None:
    queue = Queue(load)
    queue.simulation.run(2 * ARRIVALS / load)
    mean = sum(queue.waited) / len(queue.waited)
    assert len(queue.waited) == ARRIVALS
    assert mean == pytest.approx(load / (2 * (1 - load)), rel=0.08)


def test_queue_keeps_to_littles_law() -> None:
    queue = Queue(0.7)
    queue.simulation.run(ARRIVALS / 0.7)
    arrived_a_second = len(queue.waited) / queue.since
    in_system_s = 1.0 + sum(queue.waited) / len(queue.waited)
    assert queue.area / queue.since == pytest.approx(arrived_a_second * in_system_s, rel=0.01)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_core_of_a_storm_is_an_m_d_1(load: float) -> None:
    random, core, now, waited = Simulation(5).random, Core(0.0, yields=False), 0.0, 0.0
    for _ in range(ARRIVALS):
        now += random.expovariate(load)
        waited += core.add(now, 1.0) - now - 1.0
    assert waited / ARRIVALS == pytest.approx(load / (2 * (1 - load)), rel=0.1)


def test_live_share_slows_what_yields_to_it() -> None:
    first, last = Core(0.5, yields=False), Core(0.5, yields=True)
    assert (first.add(0.0, 1.0), last.add(0.0, 1.0)) == (1.0, 2.0)
    assert first.advance(2.0) == last.advance(2.0) == 0.0
    assert first.add(2.0, 3.0) == 5.0
    assert first.delay_s(2.0) == 3.0
    assert last.add(2.0, 3.0) == 8.0
    assert last.delay_s(2.0) == seconds("turn")


def test_core_with_more_than_it_can_do_falls_behind() -> None:
    core = Core(1.25, yields=False)
    assert core.advance(8.0) == 2.0


def test_processes_share_the_cores_equally() -> None:
    simulation = Simulation()
    cores, ended = Cores(simulation, 1), list[float]()
    short, long = Process(cores), Process(cores)
    short.do(1.0, lambda: ended.append(simulation.now))
    long.do(2.0, lambda: ended.append(simulation.now))
    simulation.run(10.0)
    assert ended == pytest.approx([2.0, 3.0])
    assert [short.cpu_s, long.cpu_s] == pytest.approx([1.0, 2.0])


def test_process_has_no_more_than_one_core() -> None:
    simulation = Simulation()
    process, ended = Process(Cores(simulation, 4)), list[float]()
    for _ in range(3):
        process.do(1.0, lambda: ended.append(simulation.now))
    simulation.run(10.0)
    assert ended == [1.0, 2.0, 3.0]


def test_cores_that_are_taken_are_missing() -> None:
    simulation = Simulation()
    process, ended = Process(Cores(simulation, 1, taken=0.5)), list[float]()
    process.do(1.0, lambda: ended.append(simulation.now))
    simulation.run(10.0)
    assert ended == [2.0]


def test_idle_process_wakes_up_late_and_a_busy_one_does_not() -> None:
    simulation = Simulation()
    process, ended = Process(Cores(simulation, 1, delays=[0.25])), list[float]()
    process.do(1.0, lambda: ended.append(simulation.now))
    process.do(1.0, lambda: ended.append(simulation.now))
    simulation.run(10.0)
    assert ended == [1.25, 2.25]
