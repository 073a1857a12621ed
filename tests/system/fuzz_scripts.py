"""The fuzz of the Lua scripts: random arguments of the documented types, in random order, on a real server.

Every reply must be one of those that stand on top of the script, and no script may fail: a runtime error would be a
refusal that the worker or the frontend reports as a defect. Between the calls keys vanish and come back as they were
before, because a server may lose what it has, or be restored.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Any

import msgspec
from hypothesis import strategies as st
from redis import Redis, ResponseError

from tailrace import keys, scripts
from tailrace.log.codec import Row, pack
from tailrace.queue.quotas import Budgets, Reservation, Terms
from tailrace.scripts import Script

HOUR_MS = 3_600_000
FIRST_EPOCH = 1_795_235_902_664
IDS = ("gen_" + "a" * 26, "gen_" + "b" * 26)
STORED = (keys.stored("a"), keys.stored_until("a"))

TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "0", "-1", "nan", "1e999", "'", "\x00", "]]", "%s", "extra"])
)
NAMES = st.one_of(st.sampled_from(["one", "two", "three"]), TEXTS)
MS = st.one_of(st.sampled_from([1, 1000, HOUR_MS]), st.integers(1, 10**11))
COUNTS = st.integers(0, 10**6)
STATUSES = st.sampled_from(["completed", "incomplete", "failed", "cancelled"])
ROW = st.tuples(st.integers(1, 3), st.sampled_from(["text:0", "restarted", "done", "x"]), TEXTS, TEXTS)
"""Sequence numbers that a row takes, field, value, extra."""


@dataclass(frozen=True)
class Known:
    """What the server has of a generation when a script is called: arguments are drawn relative to it."""

    epoch: int
    seq: int
    run_id: str = ""
    opened: str = ""  # the circuit


@dataclass(frozen=True)
class Call:
    """A script with its arguments, once it is known what the server has."""

    name: str
    arguments: Callable[[Known], list[Any]]
    place: int


@dataclass(frozen=True)
class Fault:
    """A key of the generation vanishes, or all come back as they were at an earlier fault; or an endpoint is stored."""

    kind: str
    place: int


def _epoch(shift: int, known: Known) -> int:
    return max(0, known.epoch + shift)


SHIFTS = st.one_of(st.sampled_from([0, 0, 0, 1, -1]), st.integers(-(10**6), 10**6))


def _rows(epoch: int, after: int, drawn: list[Any]) -> list[Row]:
    rows = []
    for span, field, value, extra in drawn:
        after += span
        rows.append(Row(epoch, after, field, value, extra))
    return rows


def _flat(rows: list[Row]) -> list[Any]:
    return [part for row in rows for part in (f"{row.epoch}-{row.seq}", row.field, row.value, row.extra)]


def _append(drawn: Any, known: Known) -> list[Any]:
    shift, behind, rows = drawn
    epoch, after = _epoch(shift, known), max(-1, known.seq + behind)
    made = _rows(epoch, after, rows)
    return [epoch, after, made[-1].seq if made else after, pack(made), *_flat(made)]


def _finish(drawn: Any, known: Known) -> list[Any]:
    shift, behind, status, row = drawn
    epoch, after = _epoch(shift, known), max(-1, known.seq + behind)
    made = _rows(epoch, after, [row])
    return [epoch, after, status, pack(made), *_flat(made), 7 if behind else ""]


def _restore(drawn: Any, known: Known) -> list[Any]:
    shift, owner, lease, life, fields, rows = drawn
    epoch = _epoch(shift, known)
    made = [*_rows(max(0, epoch - 1), -1, rows[:1]), *_rows(epoch, 5, rows[1:])]
    state = {
        "record": "{}", "request": "{}", "created": epoch, "deadline": 1, "retention": HOUR_MS, "status": "running",
        "epoch": epoch, "seq": made[-1].seq if made else -1, "attempt": 1, "lease": 0, **fields,
    }  # fmt: skip
    flat = [part for pair in state.items() for part in pair]
    return [epoch, owner, lease, life, 2 * life, len(flat) // 2, *flat, *_flat(made)]


def _flush(drawn: Any, _: Known) -> list[Any]:
    number, life, amounts, buckets = drawn
    counted = [part for pair in amounts for part in pair]
    return [number, life, HOUR_MS, 2 * HOUR_MS, len(amounts), *counted, *(part for pair in buckets for part in pair)]


def _arguments(*parts: Any) -> st.SearchStrategy[Callable[[Known], list[Any]]]:
    """Arguments in order; an element that is a function of `Known` becomes its result."""
    return st.tuples(*parts).map(
        lambda drawn: lambda known: [each(known) if callable(each) else each for each in drawn]
    )


def _drawn(make: Callable[[Any, Known], list[Any]], *parts: Any) -> st.SearchStrategy[Callable[[Known], list[Any]]]:
    return st.tuples(*parts).map(lambda drawn: lambda known: make(drawn, known))


EPOCHS = SHIFTS.map(lambda shift: lambda known: _epoch(shift, known))
BEHIND = st.sampled_from([0, 0, 0, -1, -2, 1, 7])
OBJECT = st.just("{}")
CREATED = st.just('{"queued":false}')
STEPS = st.sampled_from(["0.25", "1", "0", "1e-05", ""])
SHARES = st.sampled_from(["0.0625", "0.25", "1", ""])
JOB = (NAMES, st.one_of(TEXTS, st.just("{}")), MS, st.sampled_from(["a", "b", ""]), STEPS, SHARES, TEXTS)
OWNER = (st.sampled_from(["a", "b", ""]), st.integers(0, 2))
GENERATIONS = st.sampled_from(IDS)
LIMITS = st.one_of(st.just(0), COUNTS)
RESERVATIONS = st.builds(
    Reservation, generation_id=GENERATIONS, model=NAMES, hold=MS, input=COUNTS,
    budgets=st.builds(Budgets, LIMITS, LIMITS, LIMITS, LIMITS), tokens_per_minute=LIMITS, max_output=LIMITS,
    choices=st.integers(1, 3), input_price=st.sampled_from([0.0, 2500.0]), output_price=st.sampled_from([0.0, 0.5]),
)  # fmt: skip
TERMS = st.builds(
    Terms, max_queued=st.one_of(st.none(), COUNTS), max_unfinished=st.one_of(st.none(), COUNTS),
    max_stored_bytes=st.one_of(st.none(), COUNTS), body_bytes=COUNTS, is_full=st.booleans(),
    reservation=st.one_of(st.none(), RESERVATIONS),
).map(msgspec.json.encode)  # fmt: skip
ENDS = st.one_of(st.just(0), MS, st.builds(lambda ago: int(time.time() * 1000) - ago, MS))
ACCESS_FIELDS = st.lists(st.tuples(st.sampled_from(["key:a", "block:b"]), TEXTS), max_size=3)
AMOUNTS = st.lists(st.tuples(st.sampled_from(["created", ">waiting"]), COUNTS), max_size=3)
BUCKETS = st.lists(st.tuples(st.integers(0, 500), COUNTS), max_size=3)
RUN_IDS = st.one_of(st.just(lambda known: known.run_id), st.just(lambda known: known.run_id), TEXTS)

LOG_SCRIPTS: dict[str, st.SearchStrategy[Callable[[Known], list[Any]]]] = {
    "create": _arguments(OBJECT, OBJECT, NAMES, NAMES, CREATED, st.integers(0, 1), MS, MS, MS),
    "acquire": _arguments(NAMES, st.one_of(st.just(""), STATUSES), MS, NAMES, COUNTS, st.one_of(st.just(""), OBJECT)),
    "append": _drawn(_append, SHIFTS, BEHIND, st.lists(ROW, max_size=4)),
    "renew": _arguments(EPOCHS, MS, st.one_of(st.just(""), MS), COUNTS, st.sampled_from(["", "{}", "x"]), TEXTS),
    "read_done": _arguments(),
    "share": _arguments(),
    "discard": _arguments(NAMES),
    "touch_presence": _arguments(),
    "requeue": _arguments(EPOCHS, NAMES, st.sampled_from(["", "expired"]), st.sampled_from(["0", "1"])),
    "restore": _drawn(
        _restore, SHIFTS, NAMES, MS, MS, st.dictionaries(st.sampled_from(["worker", "job_id", "spared"]), COUNTS),
        st.lists(ROW, min_size=1, max_size=4),
    ),
    "finish": _drawn(_finish, SHIFTS, BEHIND, STATUSES, ROW),
    "delete": st.one_of(_arguments(st.just(""), st.just(0)), _arguments(NAMES.filter(bool), MS)),
}  # fmt: skip
"""Arguments of each script on the log's server."""

QUEUE_SCRIPTS: dict[str, st.SearchStrategy[Callable[[Known], list[Any]]]] = {
    "submit": _arguments(GENERATIONS, MS, MS, MS, MS, COUNTS, MS, *JOB),
    "enqueue": _arguments(*JOB),
    "take": _arguments(
        NAMES, NAMES, MS, COUNTS, MS, RUN_IDS, st.one_of(st.just(0), MS, st.just(2 * FIRST_EPOCH)), *OWNER, MS,
        st.sampled_from(["0", "0", "1"]),
    ),
    "withdraw": _arguments(NAMES, *OWNER, st.sampled_from(["0.25", "1"]), st.sampled_from(["0", "1"])),
    "unpark": _arguments(*OWNER, st.sampled_from(["0.25", "1"]), st.integers(1, 500)),
    "load": _arguments(
        st.one_of(st.just(0), COUNTS), MS, MS, NAMES, st.integers(1, 10**6), st.sampled_from(["0", "1"]),
        st.one_of(st.just(""), TERMS),
    ),
    "settle": _arguments(
        GENERATIONS, COUNTS, COUNTS, COUNTS, ENDS, MS, MS, st.sampled_from(["", "m"]), st.just(7_200_000), MS
    ),
    "set_policy": _arguments(NAMES, st.sampled_from(["", "{}"]), st.sampled_from(["*", "", "{}"]), NAMES),
    "change_access": _drawn(lambda drawn, _: [part for pair in drawn[0] for part in pair], ACCESS_FIELDS),
    "add_to_audit": _arguments(st.sampled_from(["0", "1"]), st.integers(1, 9), st.just("who"), TEXTS),
    "flush_stats": _drawn(_flush, st.integers(1, 3), MS, AMOUNTS, BUCKETS),
    "record_output": _arguments(GENERATIONS, COUNTS, MS),
    "set_newest_of_chat": _arguments(GENERATIONS, st.one_of(st.just(0), MS), MS),
    "forget": _drawn(lambda drawn, _: drawn[0], st.lists(GENERATIONS, min_size=1, max_size=3)),
}  # fmt: skip
"""Arguments of each script on the queue's server."""

INDEX_SCRIPTS: dict[str, st.SearchStrategy[Callable[[Known], list[Any]]]] = {
    "add_unfinished": _arguments(GENERATIONS),
    "suspect": _drawn(lambda drawn, _: [drawn[0], *drawn[1]], MS, st.lists(GENERATIONS, unique=True)),
}
"""Arguments of each script on the index of unfinished generations."""

WEBHOOK_SCRIPTS: dict[str, st.SearchStrategy[Callable[[Known], list[Any]]]] = {
    "add_webhook": _arguments(NAMES, TEXTS, NAMES, MS, COUNTS),
    "claim_webhooks": _arguments(NAMES, COUNTS, MS),
    "add_endpoint": _arguments(NAMES, NAMES, COUNTS, st.sampled_from(["0", "1"]), st.one_of(st.just(0), MS)),
    "replace_endpoint": _arguments(NAMES, NAMES, NAMES),
}
"""Arguments of each script on webhooks and their endpoints."""

REPORTED = st.lists(st.tuples(NAMES, COUNTS), max_size=3).map(lambda pairs: [part for pair in pairs for part in pair])
UPSTREAM_SCRIPTS: dict[str, st.SearchStrategy[Callable[[Known], list[Any]]]] = {
    "fail_call": _arguments(NAMES, GENERATIONS, st.integers(1, 3), MS, st.one_of(st.just(0), MS), MS),
    "probe_circuit": _arguments(NAMES, st.one_of(st.just(0), MS), MS),
    "close_circuit": _arguments(st.one_of(st.just(lambda known: known.opened), NAMES)),
    "occupy_slot": _arguments(NAMES, st.integers(1, 3), MS),
    "renew_slots": _drawn(lambda drawn, _: [drawn[0], *drawn[1]], MS, st.lists(NAMES, max_size=4)),
    "report_calls": _drawn(lambda drawn, _: [*drawn[0], *drawn[1]], st.tuples(COUNTS, MS, OBJECT), REPORTED),
}
"""Arguments of each script on what workers share about an upstream."""

ALL_SCRIPTS = LOG_SCRIPTS | QUEUE_SCRIPTS | INDEX_SCRIPTS | WEBHOOK_SCRIPTS | UPSTREAM_SCRIPTS
SCRIPT_NAMES = tuple(ALL_SCRIPTS)

FAULTS = ("state", "log", "tombstone", "lease", "keep", "bring back", "endpoint")
CALLS = st.one_of(
    *[st.builds(Call, st.just(name), arguments, st.integers(0, 1)) for name, arguments in ALL_SCRIPTS.items()],
    *[st.builds(Call, st.just(name), LOG_SCRIPTS[name], st.just(0)) for name in LOG_SCRIPTS],
    st.builds(
        Fault,
        st.sampled_from(["state", "log", "tombstone", "lease", "keep", "bring back", "endpoint"]),
        st.integers(0, 1),
    ),
)
CREATE = Call("create", lambda _: ["{}", "{}", "one", "one", '{"queued":false}', 0, HOUR_MS, HOUR_MS, HOUR_MS], 0)
ACQUIRE = Call("acquire", lambda _: ["one", "", HOUR_MS, "one", 0, ""], 0)
ENQUEUE, TWO, URGENT = (
    Call("enqueue", lambda _, name=name, share=share: [name, "{}", HOUR_MS, "a", "1", share, ""], 0)  # type: ignore[misc]
    for name, share in (("one", "0.25"), ("two", "1"), ("three", "0.0625"))
)
TAKE = Call("take", lambda known: ["one", "one", HOUR_MS, 0, 1, known.run_id, 0, "a", 1, HOUR_MS, "0"], 0)
NEXT = Call("take", lambda known: ["two", "one", HOUR_MS, 0, 1, known.run_id, 0, "a", 1, HOUR_MS, "0"], 0)
BEGINNINGS = st.sampled_from(
    [
        [], [CREATE], [CREATE, ACQUIRE], [CREATE, ACQUIRE], [ENQUEUE], [ENQUEUE, TAKE], [ENQUEUE, TWO, URGENT],
        [ENQUEUE, TAKE, TWO, NEXT, URGENT],
    ]
)  # fmt: skip
BATCHES = st.tuples(BEGINNINGS, st.lists(CALLS, min_size=1, max_size=30)).map(lambda parts: parts[0] + parts[1])


@cache
def answers(name: str) -> frozenset[str]:
    """The outcomes that stand on top of the script."""
    text = (files("tailrace") / "lua" / f"{name}.lua").read_text()
    header = "\n".join(takewhile(lambda line: line.startswith(("--", "#!")), text.splitlines()))
    described = header.partition("Answers")[2].partition("\n--\n")[0]
    return frozenset(re.findall(r"\b[A-Z]{2,}\b", described))


def _has_outcome(reply: Any) -> bool:
    return isinstance(reply, list) and bool(reply) and isinstance(reply[0], bytes)


OF_ENDPOINT = [keys.webhooks_due("e"), keys.webhook_bodies("e"), keys.webhook_tries("e")]
OF_CIRCUIT = [keys.circuit("a"), keys.failures("a"), keys.CIRCUITS]
OF_QUOTA = [keys.use("a"), keys.reserved("a"), keys.reserved_until("a")]
OF_STATS = [name(width, 1) for width in (60, 600) for name in (keys.stats, keys.stats_durations)]
OF_CALLER = [keys.unfinished_of("a"), keys.owned("a"), *STORED]


def _waiting(job_id: str, owner: str) -> list[str]:
    places = keys.line(owner), keys.turns(owner), keys.parked(owner)
    return [keys.QUEUE, f"arq:job:{job_id}", keys.TAGS, *places, keys.WAITING]


def _of_turns(owner: str) -> list[str]:
    places = keys.line(owner), keys.turns(owner), keys.running(owner), keys.parked(owner)
    return [keys.TAGS, *places, keys.PARKED, keys.WAKE]


KEYS: dict[str, Callable[[list[Any]], Sequence[str]]] = {
    "submit": lambda given: [OF_CALLER[1], OF_CALLER[0], *STORED, keys.GENERATIONS, *_waiting(given[7], given[10])],
    "enqueue": lambda given: _waiting(given[0], given[3]),
    "take": lambda given: [
        keys.QUEUE,
        f"arq:in-progress:{given[0]}",
        f"arq:job:{given[0]}",
        keys.TAGS,
        keys.line(given[7]),
        keys.turns(given[7]),
        keys.running(given[7]),
        keys.parked(given[7]),
        keys.PARKED,
        keys.WAITING,
    ],
    "withdraw": lambda given: [
        keys.QUEUE,
        *(f"arq:{kind}:{given[0]}" for kind in ("job", "in-progress", "retry")),
        *_of_turns(given[1]),
        keys.WAITING,
    ],
    "unpark": lambda given: [keys.QUEUE, *_of_turns(given[0])],
    "load": lambda _: [
        keys.QUEUE,
        *OF_CALLER,
        keys.owed("a"),
        keys.idempotency("a", "key"),
        keys.GENERATIONS,
        keys.PARKED,
        *OF_QUOTA,
        keys.outputs("a"),
    ],
    "settle": lambda _: [*OF_QUOTA, keys.settled("a"), keys.outputs("a")],
    "set_policy": lambda _: [keys.CALLERS],
    "change_access": lambda _: [keys.ACCESS, keys.ACCESS_CHANGED],
    "add_to_audit": lambda _: [keys.AUDIT, keys.AUDIT_ACTS, keys.AUDIT_ADDED],
    "flush_stats": lambda _: [keys.stats_flushed("one"), *OF_STATS],
    "set_newest_of_chat": lambda _: [keys.chat("a", "chat")],
    "record_output": lambda _: STORED,
    "forget": lambda _: [*OF_CALLER[1:], keys.GENERATIONS],
    "add_unfinished": lambda given: [keys.unfinished(given[0])],
    "suspect": lambda _: [keys.suspected(0)],
    "add_webhook": lambda given: [keys.webhook_known(given[0]), keys.WEBHOOKS_PENDING, *OF_ENDPOINT[:2]],
    "claim_webhooks": lambda _: [keys.WEBHOOKS_PENDING, *OF_ENDPOINT],
    "add_endpoint": lambda _: [keys.webhook_endpoints("a"), keys.webhook_creation("a", "key")],
    "replace_endpoint": lambda _: [keys.webhook_endpoints("a")],
    "fail_call": lambda _: OF_CIRCUIT,
    "probe_circuit": lambda _: OF_CIRCUIT[:1],
    "close_circuit": lambda _: OF_CIRCUIT,
    "occupy_slot": lambda _: [keys.slots("a")],
    "renew_slots": lambda _: [keys.slots("a")],
    "report_calls": lambda _: [keys.UPSTREAM_CALLS, keys.upstream_report("a")],
}
"""The keys of every script that is not called on those of one generation, by its arguments."""


def _keys(call: Call, arguments: list[Any]) -> Sequence[str]:
    return KEYS[call.name](arguments) if call.name in KEYS else keys.of_generation(IDS[call.place])


class ScriptFuzz:
    """Calls scripts on a server, and judges their replies."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # its types are those of both of its clients
        for text in scripts.TEXTS.values():
            redis.script_load(text)
        info: Any = redis.info()
        self._run_id = f"{info['run_id']} {info['master_replid']}"
        self._kept: dict[int, dict[str, Any]] = {}
        self.called = 0
        self.replies: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, batch: list[Call | Fault]) -> None:
        self._redis.flushall()
        self._kept.clear()
        for step in batch:
            if isinstance(step, Fault):
                self._inject(step)
            else:
                self._call(step)

    def _call(self, call: Call) -> None:
        script: Script = getattr(scripts, call.name.upper())
        generation_id = IDS[call.place]
        epoch, seq = self._redis.hmget(keys.state(generation_id), "epoch", "seq")
        opened = (self._redis.hget(keys.circuit("a"), "opened") or b"").decode()
        arguments = call.arguments(Known(int(epoch or FIRST_EPOCH), int(seq or 0), self._run_id, opened))
        self.called += 1
        try:
            reply = self._redis.execute_command(*script.on(_keys(call, arguments), *arguments))
        except ResponseError as error:
            self.wrong.append(f"{call.name}{arguments!r}: {error}")
            return
        has_outcome = bool(answers(call.name)) and _has_outcome(reply)
        outcome = reply[0].decode() if has_outcome else "nil" if reply is None else "value"
        self.replies[f"{call.name} {outcome}"] += 1
        if has_outcome and outcome not in answers(call.name):
            self.wrong.append(f"{call.name}{arguments!r}: {reply!r}")

    def unseen(self, name: str) -> set[str]:
        """Documented outcomes that no call had. (The server is never full here.)"""
        return {each for each in answers(name) - {"FULL"} if not self.replies[f"{name} {each}"]}

    def _inject(self, fault: Fault) -> None:
        names = dict(zip(("state", "log", "tombstone"), keys.of_generation(IDS[fault.place])[:3], strict=True))
        match fault.kind:
            case "lease":
                if self._redis.exists(names["state"]):
                    self._redis.hset(names["state"], "lease", 1)
            case "keep":
                self._kept[fault.place] = {name: self._redis.dump(name) for name in names.values()}
            case "bring back":
                for name, dump in self._kept.get(fault.place, {}).items():
                    self._redis.delete(name)
                    if dump:
                        self._redis.restore(name, HOUR_MS, dump)
            case "endpoint":
                self._redis.hset(keys.webhook_endpoints("a"), "one", "one")
            case kind:
                self._redis.delete(names[kind])
