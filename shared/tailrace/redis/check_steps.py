"""What Tailrace sends to a server, once, on keys that are only a check's.

Every script takes its main path, so that its commands run as they do for a generation: a script that finds nothing
would end with its first command. Every command that a module or a script sends is also sent alone, because a server
names a command that it lacks, or that a user may not send, and Redis 7.0 does not name it from within a script. The
tests compare both with the sources.

All keys have one hash tag, so that a cluster's primary is checked by a tag of one of its slots, and in their names a
token by which no two processes share a key. The steps begin and end with the deletion of all of them. What a connection
that is lost in between leaves, the next check of the same process deletes.
"""

from enum import Flag, auto
from typing import Any, NamedTuple

import msgspec

from tailrace import keys, scripts
from tailrace.scripts import Command, Script

LIFE_MS = 60_000
NEVER = 10**15
"""A time that has not come, in ms."""


class Uses(Flag):
    """What a server keeps."""

    LOG = auto()
    QUEUE = auto()
    BOTH = LOG | QUEUE


class Step(NamedTuple):
    """One command. `script`: the one that it runs. `answer`: the reply, or its first part; None: any."""

    command: Command
    script: Script | None = None
    answer: bytes | int | None = None

    @property
    def name(self) -> str:
        """Of the command."""
        return str(self.command[0])


class Names:
    """The keys of one check."""

    def __init__(self, tag: str, token: str) -> None:
        self.tag, self.token = tag, token
        self.used: list[str] = []

    def __call__(self, *names: str) -> list[str]:
        """These keys."""
        found = [keys.check(self.tag, self.token, name) for name in names]
        self.used += found
        return found

    def one(self, name: str) -> str:
        return self(name)[0]

    def job(self, name: str) -> str:
        """A key of arq's."""
        self.used.append(keys.check_of_job(self.tag, self.token, name))
        return self.used[-1]

    @property
    def channel(self) -> str:
        """On which the check receives what it publishes."""
        return keys.check(self.tag, self.token, "channel")


PLAIN = "return 1"
WITH_SHEBANG = "#!lua\nreturn 1"
WITH_FLAGS = "#!lua flags=allow-oom\nreturn 1"


def steps_of(uses: Uses, names: Names, run: str) -> list[Step]:
    """All steps on a server that keeps this. `run`: the server's, as the script `take` compares it."""
    found = [*_commands(names), *(_streams(names) if Uses.LOG in uses else ())]
    found += [Step(("EVAL", text, 1, names.one("text")), answer=1) for text in (PLAIN, WITH_SHEBANG, WITH_FLAGS)]
    if Uses.LOG in uses:
        found += [*_generation(names), *_others_of_log(names)]
    if Uses.QUEUE in uses:
        found += [*_commands_of_arq(names), *_queue(names, run), *_sizes(names), *_upstreams(names)]
    delete = Step(("DEL", *sorted(set(names.used))))
    return [delete, *found, delete]


def _commands(names: Names) -> list[Step]:
    """Each command once, but those of streams."""
    text, fields, members, scores, items = names("string", "hash", "set", "zset", "list")
    commands: list[Command] = [
        ("SET", text, "a", "PX", LIFE_MS), ("GET", text), ("MGET", text), ("EXISTS", text), ("PEXPIRETIME", text),
        ("EXPIRE", text, 60), ("PEXPIRE", text, LIFE_MS), ("EXPIREAT", text, NEVER // 1000), ("INCRBY", text + "s", 1),
        ("BITFIELD", text + "s", "INCRBY", "u8", 0, 1),
        ("HSET", fields, "a", 1), ("HSETNX", fields, "b", 1), ("HINCRBY", fields, "a", 1), ("HGET", fields, "a"),
        ("HMGET", fields, "a"), ("HGETALL", fields), ("HKEYS", fields), ("HVALS", fields), ("HLEN", fields),
        ("HEXISTS", fields, "a"), ("HSTRLEN", fields, "a"), ("HDEL", fields, "a"),
        ("SADD", members, "a"), ("SMEMBERS", members), ("SREM", members, "a"),
        ("ZADD", scores, 1, "a"), ("ZSCORE", scores, "a"), ("ZMSCORE", scores, "a"), ("ZRANK", scores, "a"),
        ("ZCARD", scores), ("ZCOUNT", scores, 0, 1), ("ZRANGE", scores, 0, 0), ("ZRANGEBYSCORE", scores, 0, 1),
        ("ZREVRANGE", scores, 0, 0), ("ZREMRANGEBYSCORE", scores, 2, 3), ("ZREM", scores, "b"), ("ZPOPMIN", scores),
        ("RPUSH", items, "a"), ("LRANGE", items, 0, 0), ("TIME",), ("SPUBLISH", names.channel, b""),
    ]  # fmt: skip
    names.used.append(text + "s")
    return [Step(command) for command in commands]


def _streams(names: Names) -> list[Step]:
    name = names.one("stream")
    return [
        Step(("XADD", name, "1-1", "a", "b"), answer=b"1-1"),
        Step(("XRANGE", name, "-", "+")),
        Step(("XREVRANGE", name, "+", "-", "COUNT", 1)),
        Step(("XREAD", "COUNT", 1, "STREAMS", name, "0-0")),
        Step(("XLEN", name), answer=1),
    ]


def _commands_of_arq(names: Names) -> list[Step]:
    """What arq sends for each job, and when a worker starts."""
    text = names.job("c")
    commands: list[Command] = [
        ("MULTI",),
        ("GET", text),
        ("EXEC",),
        ("INCR", text),
        ("PSETEX", text, LIFE_MS, "a"),
        ("DBSIZE",),
    ]
    return [Step(command) for command in commands]


def _script(script: Script, keys: list[str], *args: Any, answer: bytes | int | None = b"OK") -> Step:
    return Step(script.on(keys, *args), script, answer)


def _generation(names: Names) -> list[Step]:
    """The life of a generation; a second one is given up, and a third one taken."""
    generation = names("state", "log", "tombstone")

    def on(script: Script, *args: Any, answer: bytes = b"OK") -> Step:
        return _script(script, [*generation, names.channel], *args, answer=answer)

    fields = {
        "record": "{}", "request": "{}", "created": 1, "deadline": NEVER, "retention": LIFE_MS, "status": "running",
        "job_id": "a", "epoch": 1, "attempt": 1, "seq": 1, "lease": 0,
    }  # fmt: skip
    flat = [part for field in fields.items() for part in field]
    create = (scripts.CREATE, "{}", "{}", "a", "a", '{"a":1}', 1, LIFE_MS, LIFE_MS, LIFE_MS)
    return [
        on(scripts.RESTORE, 1, "a", LIFE_MS, LIFE_MS, LIFE_MS, len(fields), *flat, "1-1", "created", "{}", "{}"),
        on(scripts.APPEND, 1, 1, 2, b"", "1-2", "text", "a", ""),
        on(scripts.RENEW, 1, LIFE_MS, LIFE_MS, 0, "{}", ""),
        on(scripts.TOUCH_PRESENCE),
        on(scripts.REQUEUE, 1, "b", "", ""),
        on(scripts.SHARE),
        on(scripts.FINISH, 1, 2, "complete", b"", "1-3", "done", "{}", "", 1, "", ""),
        on(scripts.READ_DONE, answer=b"{}"),
        on(scripts.DELETE, "a", LIFE_MS),
        Step(("DEL", *generation)),
        on(*create),
        on(scripts.DISCARD, "a"),
        on(*create),
        on(scripts.ACQUIRE, "a", "", LIFE_MS, "a", 0, ""),
    ]


def _others_of_log(names: Names) -> list[Step]:
    """The index of unfinished generations, webhooks, access and the audit."""
    endpoints, claim = names("endpoints", "claim")
    known, pending, due, bodies, tries = names("known", "pending", "due", "bodies", "tries")
    return [
        _script(scripts.ADD_UNFINISHED, names("unfinished"), "a"),
        _script(scripts.SUSPECT, names("suspected"), LIFE_MS, "a", answer=0),
        _script(scripts.ADD_ENDPOINT, [endpoints, claim], "a", "{}", 1, 1, LIFE_MS),
        _script(scripts.REPLACE_ENDPOINT, [endpoints], "a", "{}", '{"a":1}'),
        _script(scripts.ADD_WEBHOOK, [known, pending, due, bodies], "a", "{}", "a", LIFE_MS, 1),
        _script(scripts.CLAIM_WEBHOOKS, [pending, due, bodies, tries], "a", 1, LIFE_MS, answer=None),
        _script(scripts.CHANGE_ACCESS, [*names("access"), names.channel], "a", "b", "", answer=None),
        _script(scripts.ADD_TO_AUDIT, [*names("audit", "acts"), names.channel], 1, 1, "a", "b", answer=None),
    ]


def _queue(names: Names, run: str) -> list[Step]:
    """Two jobs of a caller whose second one is parked while the first one runs."""
    owned, unfinished, stored, stored_until, generations = _lists(names)
    queue, tags, line, turns = names("queue", "tags", "line", "turns")
    parked, counts, running, waiting = names("parked", "counts", "running", "waiting")
    one, other = names.job("a"), names.job("b")
    mark, other_mark, retries = names.job("a:mark"), names.job("b:mark"), names.job("a:retries")

    def enqueued(job_id: str, job: str) -> tuple[list[str], tuple[Any, ...]]:
        payload = (job_id, '{"a":1}', LIFE_MS, "a", "1", "0.25", names.channel)
        return [queue, job, tags, line, turns, parked, waiting], payload

    def take(job_id: str, job: str, job_mark: str, answer: bytes) -> Step:
        used = [queue, job_mark, job, tags, line, turns, running, parked, counts, waiting]
        return _script(scripts.TAKE, used, job_id, "a", LIFE_MS, 0, 0, run, 0, "a", 1, LIFE_MS, "1", answer=answer)

    first, second = enqueued("a", one), enqueued("b", other)
    withdrawn = [queue, one, mark, retries, tags, line, turns, running, parked, counts, names.channel, waiting]
    unparked = [queue, tags, line, turns, running, parked, counts, names.channel]
    lists = [owned, unfinished, stored, stored_until, generations]
    return [
        _script(scripts.SUBMIT, [*lists, *first[0]], "a", 1, NEVER, LIFE_MS, LIFE_MS, 1, NEVER, *first[1]),
        _script(scripts.ENQUEUE, second[0], *second[1]),
        take("a", one, mark, b"OK"),
        take("b", other, other_mark, b"PARKED"),
        _script(scripts.UNPARK, unparked, "a", 0, 1, 1),
        _script(scripts.WITHDRAW, withdrawn, "a", "a", 1, 1, 1),
    ]  # fmt: skip


def _lists(names: Names) -> list[str]:
    return names("owned", "unfinished_of", "stored", "stored_until", "generations")


def _sizes(names: Names) -> list[Step]:
    """What a caller uses and stores."""
    owned, unfinished, stored, stored_until, generations = _lists(names)
    queue, rate, claim, counts = names("queue", "rate", "claim_of_key", "counts")
    use, reserved, reserved_until, settled, outputs = names("use", "reserved", "reserved_until", "settled", "outputs")
    loaded = [
        queue, unfinished, owned, stored, stored_until, rate, claim, generations, counts, use, reserved, reserved_until,
        outputs,
    ]  # fmt: skip
    budgets = dict.fromkeys(("day_tokens", "day_cost", "month_tokens", "month_cost"), 0)
    reservation = {
        "generation_id": "a", "model": "a", "input": 1, "max_output": 1, "usual_output": 1, "choices": 1,
        "input_price": 1, "output_price": 1, "tokens_per_minute": 1000, "budgets": budgets, "hold": LIFE_MS,
        "life": LIFE_MS,
    }  # fmt: skip
    limits = msgspec.json.encode({"reservation": reservation})
    charged = [use, reserved, reserved_until, settled, outputs]
    return [
        _script(scripts.LOAD, loaded, 1, 1, LIFE_MS, "a", 60, 0, limits),
        _script(scripts.SETTLE, charged, "a", 1, 1, 1, NEVER, NEVER, NEVER, "a", LIFE_MS, LIFE_MS),
        _script(scripts.RECORD_OUTPUT, [stored, stored_until], "a", 1, LIFE_MS),
        _script(scripts.FORGET, [owned, stored, stored_until, generations], "a"),
        _script(scripts.SET_NEWEST_OF_CHAT, names("chat"), "a", 1, 60),
        _script(scripts.SET_POLICY, names("callers"), "a", "{}", "*", names.channel),
        _script(
            scripts.FLUSH_STATS, names("flushed", "slot", "durations"), 1, LIFE_MS, LIFE_MS, 2, "a", 1, ">b", 1, 0, 1
        ),
    ]


def _upstreams(names: Names) -> list[Step]:
    """A circuit that opens, and is probed; another one that closes; a slot, and a report."""
    circuit, closing, failures, slots = names("circuit", "closing", "failures", "slots")
    return [
        _script(
            scripts.FAIL_CALL, [circuit, failures, names.channel], "a", "a", 1, LIFE_MS, 0, LIFE_MS, answer=b"OPEN"
        ),
        _script(scripts.PROBE_CIRCUIT, [circuit], "a", LIFE_MS, LIFE_MS, answer=b"PROBE"),
        Step(("HSET", closing, "opened", 1)),
        _script(scripts.CLOSE_CIRCUIT, [closing, failures, names.channel], 1),
        _script(scripts.OCCUPY_SLOT, [slots], "a", 1, LIFE_MS),
        _script(scripts.RENEW_SLOTS, [slots], LIFE_MS, "a"),
        _script(scripts.REPORT_CALLS, names("totals", "report"), 1, LIFE_MS, "{}", "a", 1),
    ]
