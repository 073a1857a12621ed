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
    within = sum(each.is_within for each in found.figures)
    worst = max(each.others for each in found.figures)
    note = (
        f"{within} of {len(found.figures)} figures agree within {validation.TOLERANCE:.0%}. "
        f"Windows of {found.seconds:g} s; {found.machine}, {found.date}. "
        f"Meanwhile other processes used up to {worst:.2f} cores."
    )
    return [
        *validation_table(found),
        "",
        note,
    ]


def validation_table(found: validation.Validation) -> list[str]:
    rows = [
        (each.load, str(each.frontends), each.figure, _three_digits(each.measured), _three_digits(each.simulated),
         f"{each.ratio:.2f}")
        for each in found.figures
    ]  # fmt: skip
    return markdown(("load", "frontends", "figure", "measured", "simulated", "ratio"), rows)


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
