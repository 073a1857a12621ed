"""The live path's model beside the product, at 1, 2 and 4 frontends on this machine.

First four trials of other loads give the unit costs of this machine (`simulation.calibration`). Then each load below is
run for real and in the model, with those costs, this machine's cores, and the wake-up delays that a probe found beside
the trial. A run in which other processes used more than `QUIET_CORES` is marked: the model does not know what they did.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.results import machine
from simulation import calibration
from simulation.live_path import LivePath
from simulation.measured import ROLES, Trial, measure
from simulation.path_load import PathCosts, PathResult, PathShape

FILE = Path(__file__).parent / "validation.json"
CORES = 2
TOLERANCE = 0.15
QUIET_CORES = 0.15
LOADS = tuple(PathShape(frontends, *load) for load in ((200, 20.0, 1), (40, 50.0, 8)) for frontends in (1, 2, 4))
"""4,000 tokens a second with a client each, and 2,000 of which each has eight: 16,000 deliveries."""


class Compared(msgspec.Struct, frozen=True):
    """A figure of one load: measured and simulated."""

    load: str
    frontends: int
    figure: str
    measured: float
    simulated: float
    others: float

    @property
    def ratio(self) -> float:
        return self.simulated / self.measured if self.measured else math.nan

    @property
    def is_within(self) -> bool:
        return abs(self.ratio - 1) <= TOLERANCE


class Validation(msgspec.Struct, frozen=True):
    """A whole run, as it is kept in `FILE`. `costs`: µs by unit, of this run."""

    machine: str
    date: str
    seconds: float
    costs: dict[str, float]
    figures: list[Compared]


async def validate(
    seconds: float, frontends: Sequence[int], date: str, on_trial: Callable[[str], None] = lambda _: None,
    on_figures: Callable[[Validation], None] = lambda _: None,
) -> Validation:  # fmt: skip
    """Calibrate, then compare each load of so many frontends. `on_figures`: called after each load with all so far.

    Raises:
        AssertionError, OSError: a process of the product failed.
    """
    trials: list[Trial] = []
    for shape in calibration.LOADS:
        on_trial(f"costs: {shape.frontends} frontend(s), {shape.logs} logs × {shape.rate:g}/s × {shape.readers}")
        trials.append(await measure(shape, seconds))
    costs = calibration.costs(trials)
    micros = {name: round(1e6 * value, 2) for name, value in costs._asdict().items()}
    found = Validation(machine(), date, seconds, micros, [])
    for shape in (each for each in LOADS if each.frontends in frontends):
        on_trial(f"{name_of(shape)}, {shape.frontends} frontend(s)")
        trial = await measure(shape, seconds)
        found.figures.extend(compare(trial, simulate(trial, costs)))
        on_figures(found)
    return found


def simulate(trial: Trial, costs: PathCosts, seed: int = 1) -> PathResult:
    """The same load in the model, for as long."""
    path = LivePath(trial.shape, costs, CORES, seed=seed, delays=trial.delays)
    return path.run(1.0, trial.seconds)


def compare(trial: Trial, result: PathResult) -> list[Compared]:
    """Throughput, CPU of each role and of all, and lag."""
    pairs = {
        "deliveries/s": (trial.delivered / trial.seconds, result.delivered / result.seconds),
        "lag p50 ms": (trial.latency.p50, result.lag_ms(0.5)),
        "lag p99 ms": (trial.latency.p99, result.lag_ms(0.99)),
        "cores": (sum(trial.cores.values()), sum(result.cpu_s.values()) / result.seconds),
    }
    pairs |= {f"{role} µs": (trial.us(role), result.us(role)) for role in ROLES}
    return [
        Compared(name_of(trial.shape), trial.shape.frontends, figure, measured, simulated, trial.others)
        for figure, (measured, simulated) in pairs.items()
    ]


def name_of(shape: PathShape) -> str:
    return f"{shape.logs} logs × {shape.rate:g}/s × {shape.readers}"


def load() -> Validation | None:
    """What the last run has found."""
    return msgspec.json.decode(FILE.read_bytes(), type=Validation) if FILE.exists() else None


def save(validation: Validation) -> None:
    """Keep the result; figures of other numbers of frontends stay."""
    before = load()
    again = {each.frontends for each in validation.figures}
    kept = [each for each in before.figures if each.frontends not in again] if before else []
    ordered = sorted([*kept, *validation.figures], key=lambda each: (each.load, each.frontends))
    validation = msgspec.structs.replace(validation, figures=ordered)
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(validation)) + b"\n")
