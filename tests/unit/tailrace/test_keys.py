import re

import pytest

from tailrace import keys
from tailrace.ids import new_generation_id

GENERATION_ID = "gen_abcdefghijklmnopqrstuvwxyz"

KEYS: dict[str, str] = {
    "state": keys.state(GENERATION_ID),
    "log": keys.log(GENERATION_ID),
    "tombstone": keys.tombstone(GENERATION_ID),
    "events": keys.events(GENERATION_ID),
    "shares": keys.shares(GENERATION_ID),
    "shares_of": keys.shares_of("anna"),
    "worker": keys.worker("w1"),
    "worker_status": keys.worker_status("w1"),
    "models": keys.models("w1"),
    "models_failure": keys.models_failure("w1"),
    "circuit": keys.circuit("primary"),
    "failures": keys.failures("primary"),
    "slots": keys.slots("primary"),
    "upstream_report": keys.upstream_report("w1"),
    "upstream_news": keys.upstream_news("primary"),
    "unfinished": keys.unfinished(GENERATION_ID),
    "swept": keys.swept(3),
    "suspected": keys.suspected(3),
    "webhook_endpoints": keys.webhook_endpoints("anna"),
    "webhook_creation": keys.webhook_creation("anna", "key"),
    "webhooks_due": keys.webhooks_due("whe_1"),
    "webhook_bodies": keys.webhook_bodies("whe_1"),
    "webhook_tries": keys.webhook_tries("whe_1"),
    "webhook_known": keys.webhook_known("wh_1"),
    "owned": keys.owned("anna"),
    "unfinished_of": keys.unfinished_of("anna"),
    "stored": keys.stored("anna"),
    "stored_until": keys.stored_until("anna"),
    "owed": keys.owed("anna"),
    "line": keys.line("anna"),
    "turns": keys.turns("anna"),
    "running": keys.running("anna"),
    "parked": keys.parked("anna"),
    "use": keys.use("anna"),
    "reserved": keys.reserved("anna"),
    "reserved_until": keys.reserved_until("anna"),
    "settled": keys.settled("anna"),
    "outputs": keys.outputs("anna"),
    "idempotency": keys.idempotency("anna", "key"),
    "chat": keys.chat("anna", "chat"),
    "ACCESS": keys.ACCESS,
    "ACCESS_CHANGED": keys.ACCESS_CHANGED,
    "ACCESS_USED": keys.ACCESS_USED,
    "AUDIT": keys.AUDIT,
    "AUDIT_ACTS": keys.AUDIT_ACTS,
    "AUDIT_ADDED": keys.AUDIT_ADDED,
    "CALLERS": keys.CALLERS,
    "CALLERS_CHANGED": keys.CALLERS_CHANGED,
    "CIRCUITS": keys.CIRCUITS,
    "GENERATIONS": keys.GENERATIONS,
    "PARKED": keys.PARKED,
    "QUEUE": keys.QUEUE,
    "TAGS": keys.TAGS,
    "READERS": keys.READERS,
    "FRONTENDS_ASKED": keys.FRONTENDS_ASKED,
    "frontends_answers": keys.frontends_answers("token"),
    "restoring": keys.restoring(""),
    "unfinished_in": keys.unfinished_in("4711"),
    "WAITING": keys.WAITING,
    "WAKE": keys.WAKE,
    "WEBHOOKS_PENDING": keys.WEBHOOKS_PENDING,
    "WEBHOOKS_SWEPT": keys.WEBHOOKS_SWEPT,
    "WORKERS": keys.WORKERS,
    "UPSTREAM_CALLS": keys.UPSTREAM_CALLS,
    "stats": keys.stats(60, 29_000_000),
    "stats_durations": keys.stats_durations(60, 29_000_000),
    "check": keys.check("check", "token", "queue"),
    "check_of_job": keys.check_of_job("check", "token", "a"),
    "stats_flushed": keys.stats_flushed("p1"),
}
IN_A_CLUSTER = {
    "swept": keys.swept("4711"),
    "suspected": keys.suspected("4711"),
    "restoring": keys.restoring("4711"),
}
"""The same functions, by the tag of a slot."""

LISTS = {"of_generation", "all_unfinished"}


def documented() -> list[str]:
    """The first column of the docstring's table."""
    assert keys.__doc__ is not None
    return re.findall(r"^ {4}((?:tailrace|arq):\S+)", keys.__doc__, re.MULTILINE)


def as_pattern(row: str) -> str:
    """`<0-15>` is a number, `<word>` matches any part, `{gen}` any id, `{slot}` any number."""
    pattern = re.escape(row).replace(r"\{gen\}", r"\{gen_[a-z2-7]{26}\}").replace(r"\{slot\}", r"\{\d+\}")
    pattern = pattern.replace(r"<0\-15>", "(?:[0-9]|1[0-5])")
    return re.sub(r"<\w+>", "[^:]+", pattern)


def test_every_key_function_is_tested() -> None:
    functions = {name for name, value in vars(keys).items() if callable(value) and value.__module__ == keys.__name__}
    made = {name for name in functions if not name.startswith("_")}
    constants = {name for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    assert made | constants == set(KEYS) | LISTS


@pytest.mark.parametrize(
    "key", [*KEYS.values(), *IN_A_CLUSTER.values()], ids=[*KEYS, *map("{}-cluster".format, IN_A_CLUSTER)]
)
def test_every_key_is_documented(key: str) -> None:
    rows = [row for row in documented() if re.fullmatch(as_pattern(row), key)]
    assert len(rows) == 1


def test_every_documented_key_exists() -> None:
    made = [*KEYS.values(), *IN_A_CLUSTER.values()]
    unmade = [row for row in documented() if not any(re.fullmatch(as_pattern(row), key) for key in made)]
    assert unmade == ["arq:job:<job_id>"], "only keys of arq are documented and not made here"


def test_keys_of_a_generation_share_one_cluster_slot() -> None:
    all_of_one = keys.of_generation(GENERATION_ID)
    assert all_of_one == tuple(KEYS[name] for name in ("state", "log", "tombstone", "events"))
    assert {re.findall(r"\{(.*?)\}", key)[0] for key in all_of_one} == {GENERATION_ID}


def test_keys_of_webhooks_share_one_cluster_slot() -> None:
    names = [key for name, key in KEYS.items() if "webhook" in name.lower()]
    assert len(names) == 8
    assert {re.findall(r"\{(.*?)\}", key)[0] for key in names} == {"webhooks"}


def test_unfinished_sets_are_spread_over_all_shards() -> None:
    assert {keys.unfinished(new_generation_id()) for _ in range(1000)} == set(keys.all_unfinished())
    assert len(keys.all_unfinished()) == keys.UNFINISHED_SETS == 16
    assert keys.unfinished(GENERATION_ID) == keys.unfinished(GENERATION_ID)


def test_idempotency_key_contains_only_its_owner_and_a_hash() -> None:
    """An owner's name has no colon (`callers`), so no caller can name a key of another owner."""
    odd = keys.idempotency("anna", "bob:\r\n{}*")
    assert re.fullmatch(r"tailrace:idempotency:anna:[0-9a-f]{64}", odd)
    assert odd != keys.idempotency("anna", "bob")
