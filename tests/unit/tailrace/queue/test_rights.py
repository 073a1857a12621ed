import pytest

from tailrace.errors import Misconfigured
from tailrace.queue import Right
from tailrace.queue.rights import parse_weights, rights_from
from tailrace.settings import Settings


def test_rights_are_those_of_the_settings() -> None:
    right_of = rights_from(Settings(weights="anna=3, bob=0.5", max_running_per_caller=4))
    assert [right_of(name) for name in ("anna", "bob", "eve")] == [Right(3.0, 4), Right(0.5, 4), Right(1.0, 4)]
    assert rights_from(Settings())("anna") == Right(1.0, 0)


def test_step_is_the_inverse_of_the_weight_within_bounds() -> None:
    assert [Right(weight).step for weight in (4.0, 0.0, 1e9)] == [0.25, 1000.0, 0.001]


@pytest.mark.parametrize("text", ["anna", "anna=", "anna=x", "=3", "bob=1,anna=0", "anna=-1", "anna=nan", "anna=1e6"])
def test_weights_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_WEIGHTS: entry"):
        parse_weights(text)
