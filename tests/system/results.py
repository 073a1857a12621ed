"""The table of `scripts/chaos`: a row for each scenario, over one or several runs of it."""

from collections.abc import Sequence
from typing import NamedTuple

from system.load import Run
from system.scenarios import SCENARIOS


class Play(NamedTuple):
    """One run of a scenario, the seconds that it took, and the load average of one minute at its end."""

    run: Run
    took_s: float
    load: float


class Row(NamedTuple):
    """A scenario's runs: a row of the table."""

    name: str
    plays: Sequence[Play]

    @property
    def violations(self) -> int:
        return sum(len(play.run.violations) for play in self.plays)


def quantile(samples: Sequence[float], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(share * len(samples)))]


def spread(values: Sequence[float], form: str) -> str:
    """The value, or the range of several: `1.2` or `1.2-1.9`."""
    ends = dict.fromkeys(form.format(value) for value in (min(values), max(values)))
    return "-".join(ends)


def table(rows: Sequence[Row]) -> str:
    """A line for each scenario, followed by the notes of its runs."""
    names = f"{'scenario':20} {'count':>7} {'violations':>10} {'p50':>11} {'p99':>11} {'max':>11}"
    head = f"{names} {'took s':>9} {'load':>11}  counted; measured"
    return "\n".join([head, "-" * len(head), *(line for row in rows for line in _lines(row))])


def _lines(row: Row) -> list[str]:
    scenario, runs = SCENARIOS[row.name], [play.run for play in row.plays]
    samples = [run.samples for run in runs if run.samples]
    times = [
        spread([quantile(each, share) for each in samples], "{:.2f}") if samples else "" for share in (0.5, 0.99, 1)
    ]
    figures = " ".join(f"{each:>11}" for each in times)
    took, load = spread([play.took_s for play in row.plays], "{:.0f}"), spread([p.load for p in row.plays], "{:.1f}")
    what = f"{scenario.unit}; {scenario.measures} (s)" if samples else scenario.unit
    line = f"{row.name:20} {sum(run.runs for run in runs):7} {row.violations:10} {figures} {took:>9} {load:>11}  {what}"
    return [line, *(f"{'':20} {note}" for run in runs for note in run.notes)]
