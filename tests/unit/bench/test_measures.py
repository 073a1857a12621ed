from bench.measures import Measure

LESS = Measure("workload", "less is better", "×", must=0.2, goal=0.1)
MORE = Measure("workload", "more is better", "×", must=20, goal=40, more=True)


def test_bounds_are_upper_ones_unless_more_is_better() -> None:
    assert [LESS.meets(value, LESS.must) for value in (0.1, 0.2, 0.21)] == [True, True, False]
    assert [MORE.meets(value, MORE.must) for value in (40, 20, 19)] == [True, True, False]


def test_share_of_must_is_one_at_the_bound() -> None:
    assert LESS.share_of_must(0.2) == MORE.share_of_must(20) == 1
    assert LESS.share_of_must(0.1) == MORE.share_of_must(40) == 0.5
