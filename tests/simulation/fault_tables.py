"""The tables of docs/capacity.md on faults and deploys."""

from collections.abc import Iterable, Sequence

from simulation.constants import policy
from simulation.faults import Deploy, Outcome, all_return, deploy, frontends_die, primary_fails_over, worker_dies
from simulation.markdown import markdown, percent, seconds_text
from simulation.storm import Balancing, Client, StormShape

# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DEATHS: Sequence[tuple[str, StormShape, int]] = (
    ("2 × 450, a core at 35 %, one dies", StormShape(2, 900, 0.35), 1),
    ("3 × 600, 47 %, one dies", StormShape(3, 1800, 0.47), 1),
    ("3 × 900, 70 %, one dies", StormShape(3, 2700, 0.7), 1),
    ("10 × 800, 63 %, one dies", StormShape(10, 8000, 0.63), 1),
    ("10 × 5,000, most silent, 40 %, one dies", StormShape(10, 50_000, 0.4, primaries=3), 1),
    ("9 × 5,000, most silent, 40 %, a zone of 3 dies", StormShape(9, 45_000, 0.4, primaries=3), 3),
    ("the same, plain `EventSource`", StormShape(9, 45_000, 0.4, primaries=3, client=Client.EVENT_SOURCE), 3),
    ("6 × 8,000 of at most 10,000, 40 %, 2 die", StormShape(6, 48_000, 0.4, primaries=3), 2),
    ("4 × 9,000 of at most 10,000, 55 %, 2 die", StormShape(4, 36_000, 0.55, primaries=3), 2),
)
OUTCOME_TITLES = (
    "readers sent elsewhere", "live again: p50", "p99", "the last", "most connections in a second", "refused",
    "delay of live events: p99", "worst", "after it",
)  # fmt: skip


def deaths() -> list[str]:
    rows = [(name, *outcome_row(frontends_die(shape, dead))) for name, shape, dead in DEATHS]
    return markdown(("fleet", *OUTCOME_TITLES), rows)


def outcome_row(found: Outcome) -> Sequence[str]:
    left = "cores overloaded" if found.overloaded else f"{found.left:,} without a place"
    return (
        f"{found.affected:,}", *(seconds_text(each) for each in found.gaps), f"{found.reconnects:,}",
        f"{found.refused:,}", *(seconds_text(each) for each in found.delay),
        "all live" if found.is_over else left,
    )  # fmt: skip


RETURNS = (1000, 2000, 5000, 10_000, 20_000, 40_000)
USES = (0.3, 0.7)


def returns() -> list[str]:
    """All readers of a frontend return at once: how long that takes, by their number and by the use before."""
    rows = []
    for readers in RETURNS:
        for used in USES:
            shape = StormShape(2, 2 * readers, used, primaries=2, max_readers=1_000_000)
            found = all_return(shape, watched_s=240.0)
            rows.append((
                f"{readers:,}", percent(used), *(seconds_text(each) for each in found.gaps),
                f"{found.attempts / found.readers:.1f}", seconds_text(found.delay[1]),
                "all live" if found.is_over else f"{found.left:,} not live",
            ))  # fmt: skip
    titles = (
        "readers of a frontend", "its core before", "live again: p50", "p99", "the last", "connections a reader",
        "worst delay of a live event", "after 4 minutes",
    )  # fmt: skip
    return markdown(titles, rows)


FAILOVERS: Sequence[tuple[str, StormShape]] = (
    ("1 primary, 5 frontends × 800", StormShape(5, 4000, 0.6, redis_use=0.6)),
    ("1 primary, 5 frontends × 10,000", StormShape(5, 50_000, 0.5, redis_use=0.6)),
    ("3 primaries, 10 frontends × 10,000", StormShape(10, 100_000, 0.5, primaries=3, redis_use=0.6)),
    ("12 primaries, 10 frontends × 10,000", StormShape(10, 100_000, 0.5, primaries=12, redis_use=0.6)),
    ("17 primaries, 100 frontends × 2,000", StormShape(100, 200_000, 0.5, primaries=17, redis_use=0.6)),
)
AWAY_S = 3.0


def failovers() -> list[str]:
    rows = []
    for name, shape in FAILOVERS:
        found = primary_fails_over(shape, AWAY_S, watched_s=60.0)
        p50, p99, last = (each - AWAY_S for each in found.gaps)
        rows.append((
            name, f"{found.affected:,}", seconds_text(p50), seconds_text(p99), seconds_text(last),
            seconds_text(found.delay[0]), seconds_text(found.delay[1]),
        ))  # fmt: skip
    titles = (
        "fleet", "readers that resubscribe", "live again after the failover: p50", "p99", "the last",
        "delay of the others: p99", "worst",
    )  # fmt: skip
    return markdown(titles, rows)


def workers() -> list[str]:
    rows = []
    for name, generations, free, ends in (
        ("100 generations, 100 free places", 100, 100, 0.0),
        ("500 generations, 500 free places", 500, 500, 0.0),
        ("500 generations, 100 free places, 8 ends a second", 500, 100, 8.0),
        ("5,000 generations of ten workers, room for all", 5000, 5000, 0.0),
    ):
        found = worker_dies(generations, free, ends_each_s=ends)
        rows.append((name, *(seconds_text(each) for each in (found.p50, found.p99, found.longest))))
    return markdown(("a worker dies", "kill to next event: p50", "p99", "longest of 100 deaths"), rows)


# ── deploys ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SMALL_FLEET = StormShape(20, 40_000, 0.5, primaries=3)
GREAT_FLEET = StormShape(500, 1_000_000, 0.5, primaries=17)
TWO = Balancing.FEWER_OF_TWO
DRAIN_S = policy("drain_s")


def deploys() -> list[str]:
    plans = [
        (f"20 × 2,000, `maxSurge` {surge}, {balancing.value}, drain {drain_s:g} s",
         SMALL_FLEET._replace(balancing=balancing), surge, drain_s)
        for surge, balancing, drain_s in (
            (1, Balancing.IN_TURN, DRAIN_S), (2, Balancing.IN_TURN, DRAIN_S), (5, Balancing.IN_TURN, DRAIN_S),
            (20, Balancing.IN_TURN, DRAIN_S), (2, TWO, DRAIN_S), (5, TWO, DRAIN_S), (5, TWO, 30.0),
        )
    ]  # fmt: skip
    return _deploys(plans)


def great_deploys() -> list[str]:
    plans = [
        (f"500 × 2,000, `maxSurge` {surge}, {balancing.value}, drain {drain_s:g} s",
         GREAT_FLEET._replace(balancing=balancing), surge, drain_s)
        for surge, balancing, drain_s in (
            (5, TWO, DRAIN_S), (50, Balancing.IN_TURN, DRAIN_S),
        )
    ]  # fmt: skip
    return _deploys(plans)


def _deploys(plans: Iterable[tuple[str, StormShape, int, float]]) -> list[str]:
    titles = (
        "fleet", "takes", "moves a reader", "most connections in a second", "gap of a move: p50", "p99",
        "delay of live events: p99", "worst", "fullest frontend",
    )  # fmt: skip
    return markdown(
        titles, (_deploy_row(name, shape, deploy(shape, surge, drain_s)) for name, shape, surge, drain_s in plans)
    )


def _deploy_row(name: str, shape: StormShape, found: Deploy) -> Sequence[str]:
    p50, p99, _ = found.outcome.gaps
    mean = shape.readers / shape.frontends
    return (
        name, f"{found.took_s:,.0f} s", f"{found.moves:.2f}", f"{found.outcome.reconnects:,}", seconds_text(p50),
        seconds_text(p99), *(seconds_text(each) for each in found.outcome.delay),
        f"{found.outcome.most_readers / mean:.1f} × the mean",
    )  # fmt: skip
