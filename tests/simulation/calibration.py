"""The unit costs of the live path on this machine, from four trials whose loads differ in what they have most of.

A role's CPU is a sum of unit costs, each times a count that the trial measured or that follows from its shape. Four
trials give more equations than unknowns; least squares solve them. None of these loads is one that
`simulation.validation` compares.
"""

import statistics
from collections.abc import Sequence

from simulation.measured import Trial
from simulation.path_load import PathCosts, PathShape

LOADS = (
    PathShape(1, 200, 7.5),
    PathShape(1, 200, 35),
    PathShape(3, 200, 12),
    PathShape(1, 20, 25, 20),
)
"""1,500 and 7,000 tokens a second; 2,400 over three frontends; 500, of which each is read by twenty clients."""

LEAST_US = 1.0
FRAME_SHARE = 0.4
"""Of a write, what is spent before the system call. The loads above have a write for each frame, so they do not
separate the two; `scripts/bench` has 15 of 29 µs in a loop that only writes."""


def costs(trials: Sequence[Trial]) -> PathCosts:
    """Seconds of CPU by unit."""
    idle_frontend = statistics.median(trial.idle["frontend"] / trial.shape.frontends for trial in trials)
    idle_redis = statistics.median(trial.idle["redis"] for trial in trials)
    rows = [Counts(trial) for trial in trials]
    frontend = _solve(
        [(row.reads, row.messages, row.writes) for row in rows],
        [trial.cores["frontend"] - idle_frontend * trial.shape.frontends for trial in trials],
    )
    redis = _solve(
        [(row.pipelines, row.appends, row.reads) for row in rows],
        [trial.cores["redis"] - idle_redis for trial in trials],
    )
    worker = _solve([(row.appends, row.pipelines) for row in rows], [trial.cores["append"] for trial in trials])
    clients = _solve([(row.writes, row.reads) for row in rows], [trial.cores["readers"] for trial in trials])
    return PathCosts(
        token_s=worker[0],
        pipeline_s=worker[1],
        batch_s=redis[0],
        append_s=redis[1],
        notify_s=redis[2],
        read_s=frontend[0],
        message_s=frontend[1],
        frame_s=FRAME_SHARE * frontend[2],
        write_s=(1 - FRAME_SHARE) * frontend[2],
        client_s=clients[0],
        clients_wake_s=clients[1],
        frontend_idle=idle_frontend,
        redis_idle=idle_redis,
    )


class Counts:
    """What happened in a second. A frontend reads once for each pipeline that has a message for it."""

    def __init__(self, trial: Trial) -> None:
        shape, frontends = trial.shape, trial.shape.frontends
        self.appends = trial.appended / trial.seconds
        self.pipelines = trial.pipelines / trial.seconds
        size = trial.appended / max(1, trial.pipelines)
        places = min(frontends, shape.readers)
        self.reads = self.pipelines * frontends * (1 - (1 - places / frontends) ** size)
        self.messages = self.appends * places
        self.writes = trial.delivered / trial.seconds


def _solve(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Least squares of relative errors, without negative results: an unknown that comes out below `LEAST_US` is held
    there, and the others are solved again."""
    weighted = [[cell / value for cell in row] for row, value in zip(rows, values, strict=True)]
    least, held = LEAST_US / 1e6, set[int]()
    while True:
        free = [column for column in range(len(rows[0])) if column not in held]
        rest = [1.0 - sum(row[column] * least for column in held) for row in weighted]
        found = dict(zip(free, _normal_equations([[row[c] for c in free] for row in weighted], rest), strict=True))
        low = {column for column, value in found.items() if value < least}
        if not low:
            return [found.get(column, least) for column in range(len(rows[0]))]
        held |= low


def _normal_equations(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """The solution of AᵀA x = Aᵀb, by elimination with the greatest pivot."""
    count = len(rows[0]) if rows[0] else 0
    matrix = [
        [sum(row[i] * row[j] for row in rows) for j in range(count)]
        + [sum(row[i] * value for row, value in zip(rows, values, strict=True))]
        for i in range(count)
    ]
    for column in range(count):
        pivot = max(range(column, count), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for row in range(count):
            if row != column:
                factor = matrix[row][column] / matrix[column][column]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[column], strict=True)]
    return [matrix[row][count] / matrix[row][row] for row in range(count)]
