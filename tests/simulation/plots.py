"""The plots of docs/capacity.md, as SVG files beside it."""

from collections.abc import Callable, Mapping

from simulation.constants import policy
from simulation.fault_tables import DRAIN_S, SMALL_FLEET, TWO
from simulation.faults import FAULT_S, READY_S
from simulation.sizing import FleetLoad, FleetShape, smallest, use
from simulation.sizing_tables import in_cells
from simulation.storm import Storm, StormShape
from simulation.svg import Line, chart

LOADS = (100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000, 15_000, 20_000, 30_000)


def processes() -> str:
    """Processes that a number of live answers needs: one cluster, and cells."""
    cluster, cells = [], []
    for answers in LOADS:
        load = FleetLoad(answers)
        cluster.append((float(answers), float(sum(smallest(load)))))
        count, cell = in_cells(load)
        cells.append((float(answers), float(count * sum(cell))))
    lines = (Line("one cluster", cluster), Line("cells of one primary", cells))
    return chart(
        "Processes of all kinds, no core above 70 %", "live answers of 40 tokens/s", "processes", lines,
        log_x=True, log_y=True,
    )  # fmt: skip


def primaries() -> str:
    """The use of each kind of core for 3,000 live answers on more and more primaries."""
    counts = range(1, 25)
    uses = [use(FleetLoad(3000), FleetShape(8, 8, count)) for count in counts]
    lines = [
        Line(name, [(float(count), 100 * getattr(each, field)) for count, each in zip(counts, uses, strict=True)])
        for name, field in (
            ("a primary", "redis_cpu"), ("of it, to frontends", "redis_notify"), ("a frontend", "frontend_cpu"),
            ("a worker", "worker_cpu"),
        )
    ]  # fmt: skip
    return chart("3,000 live answers, 8 frontends, 8 workers", "primaries of one cluster", "% of a core", lines)


def rollouts() -> str:
    """Connections a second while 20 frontends are replaced."""
    lines = [Line(f"maxSurge {surge}", _connections(SMALL_FLEET._replace(balancing=TWO), surge)) for surge in (1, 2, 5)]
    return chart("A deploy of 20 frontends with 2,000 readers each", "seconds", "connections a second", lines)


def _connections(shape: StormShape, surge: int) -> list[tuple[float, float]]:
    waves = -(-shape.frontends // surge)
    storm = Storm(shape)
    old = list(storm.nodes)

    def wave(number: int) -> None:
        stopping = old[number * surge : (number + 1) * surge]
        for _ in stopping:
            storm.start()
        for node in stopping:
            storm.stop(node, DRAIN_S)

    for number in range(waves):
        storm.simulation.at((number + 1) * READY_S, wave, number)
    end_s = int(waves * READY_S + DRAIN_S + policy("hint_most_s") * 1.5)
    storm.simulation.run(end_s)
    return [(float(second), float(storm.counts.attempts_by_second.get(second, 0))) for second in range(end_s)]


def refusals() -> str:
    """Readers without a place after two frontends have died: they come back for as long as there is none."""
    lines = []
    for frontends, each, used in ((6, 8000, 0.4), (4, 9000, 0.55)):
        storm = Storm(StormShape(frontends, frontends * each, used, primaries=3))
        for node in storm.nodes[:2]:
            storm.simulation.at(FAULT_S, storm.kill, node)
        points = []
        for tick in range(120):
            storm.simulation.run(tick / 2)
            points.append((tick / 2, max(node.core.wait_s(storm.simulation.now) for node in storm.nodes[2:])))
        lines.append(Line(f"{frontends} × {each:,}", points))
    return chart("Wait of a new connection after two frontends died", "seconds", "seconds of wait", lines)


PLOTS: Mapping[str, Callable[[], str]] = {
    "capacity-processes": processes,
    "capacity-primaries": primaries,
    "capacity-rollouts": rollouts,
    "capacity-refusals": refusals,
}
LONG_PLOTS = {"capacity-rollouts", "capacity-refusals"}
