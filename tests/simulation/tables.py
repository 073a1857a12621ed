"""The tables of docs/capacity.md, each computed by the model. `LONG` ones take more than a few seconds."""

from collections.abc import Callable, Mapping

from simulation import fault_tables, sizing_tables, validation
from simulation.constants import CONSTANTS, POLICIES
from simulation.markdown import markdown


def constants() -> list[str]:
    rows = [
        (row.meaning, f"{row.value:,.3g}" if row.value < 100 else f"{row.value:,.0f}", row.unit, row.source, row.date)
        for row in CONSTANTS.values()
    ]
    rows += [(row.meaning, f"{row.value:g}", row.unit, row.source, row.date) for row in POLICIES.values()]
    return markdown(("constant", "value", "unit", "source", "date"), rows)


def validated() -> list[str]:
    """The last run of `scripts/simulate validate --save`."""
    found = validation.load()
    assert found is not None, "run scripts/simulate validate --save"
    worst = max(each.others for each in found.figures)
    note = (
        f"Within {validation.TOLERANCE:.0%}, and the range of simulated to measured: {agreement(found)}. "
        f"Windows of {found.seconds:g} s; {found.machine}, {found.date}; other processes used up to {worst:.2f} cores."
    )
    return [
        *validation_table(found),
        "",
        note,
    ]


FIGURES = ("deliveries/s", "cores", "frontend µs", "redis µs", "append µs", "lag p50 ms", "lag p99 ms")


def validation_table(found: validation.Validation) -> list[str]:
    """A row for each load and number of frontends: measured, simulated."""
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for each in found.figures:
        cells = rows.setdefault((each.load, each.frontends), {})
        cells[each.figure] = f"{_three_digits(each.measured)}, {_three_digits(each.simulated)}"
    return markdown(
        ("load", "frontends", *FIGURES),
        [(load, str(frontends), *(cells[figure] for figure in FIGURES)) for (load, frontends), cells in rows.items()],
    )


def agreement(found: validation.Validation) -> str:
    """How many of each figure are within the tolerance."""
    counts = []
    for figure in FIGURES:
        ratios = [each.ratio for each in found.figures if each.figure == figure]
        within = sum(each.is_within for each in found.figures if each.figure == figure)
        counts.append(f"{figure} {within} of {len(ratios)} ({min(ratios):.2f} to {max(ratios):.2f})")
    return ", ".join(counts)


def _three_digits(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


TABLES: Mapping[str, Callable[[], list[str]]] = {
    "sizing": sizing_tables.sizing,
    "mixes": sizing_tables.mixes,
    "first": sizing_tables.first,
    "primaries": sizing_tables.primaries,
    "lags": sizing_tables.lags,
    "deaths": fault_tables.deaths,
    "returns": fault_tables.returns,
    "failovers": fault_tables.failovers,
    "workers": fault_tables.workers,
    "deploys": fault_tables.deploys,
    "great-deploys": fault_tables.great_deploys,
    "constants": constants,
    "validated": validated,
}
LONG = {"workers", "lags", "great-deploys", "returns", "failovers", "deploys", "deaths"}
