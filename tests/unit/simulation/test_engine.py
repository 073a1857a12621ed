from simulation.engine import Simulation


def test_events_happen_in_the_order_of_their_time_and_then_of_their_scheduling() -> None:
    simulation = Simulation()
    happened: list[tuple[str, float]] = []

    def happen(name: str) -> None:
        happened.append((name, simulation.now))

    simulation.at(2.0, happen, "late")
    simulation.at(1.0, happen, "first")
    simulation.at(1.0, happen, "second")
    simulation.run(1.5)
    assert happened == [("first", 1.0), ("second", 1.0)]
    assert simulation.now == 1.5
    simulation.run(3.0)
    assert happened[2:] == [("late", 2.0)]


def test_past_counts_as_now() -> None:
    simulation = Simulation()
    simulation.run(5.0)
    times: list[float] = []
    simulation.at(1.0, lambda: times.append(simulation.now))
    simulation.run(6.0)
    assert times == [5.0]


def test_same_seed_draws_the_same_numbers() -> None:
    assert Simulation(7).random.random() == Simulation(7).random.random() != Simulation(8).random.random()
