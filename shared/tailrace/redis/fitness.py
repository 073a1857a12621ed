"""Whether a server, and the user by which a process is connected to it, can do what Tailrace needs.

Tested by doing: every command, every script on its main path, the flags of scripts, and one message that is published
on one connection and received on another. A version number shows none of that (Valkey, Dragonfly and hosted services
report one of Redis'), and a user may have fewer permissions than its server has commands.

A check is about a hundred commands in one write, on a connection of its own that is closed afterwards: there a refused
command has no effect on others, and a connection that is subscribed can do nothing else. `Fitness` keeps the result.

What is wrong with one cause is reported once: a server without flags fails in every script that has them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import NoPermissionError, NoScriptError, OutOfMemoryError, ResponseError

from tailrace.ids import new_token
from tailrace.redis.check_steps import PLAIN, WITH_FLAGS, WITH_SHEBANG, Names, Step, Uses, steps_of
from tailrace.redis.connection import TRANSIENT_ERRORS, AskReply, MovedReply
from tailrace.redis.pipeline import pack
from tailrace.scripts import Command, with_text

TAG = "check"

KEPT_S = 30.0
"""How long a server that can do everything is not tried again, except where another one replies at its address. One
check takes 2.2 ms of the server's CPU and 3.2 ms of the process' (200 checks, Valkey 9.1; kept ones: 0.07 and 0.20)."""

UNFIT_S = 5.0
"""How long one that cannot is not."""

RECEIVED_S = 2.0
"""Within which what is published has to arrive."""

INCONCLUSIVE = (*TRANSIENT_ERRORS, MovedReply, AskReply)
"""Replies that show nothing of what the server can do at other times, or with keys of another slot."""

MESSAGE = b"check"
MOST_NAMED = 3
FLAGS_PURPOSE = "by them a server without room still ends what runs"
NAMES = {
    "valkey_version": "Valkey", "dragonfly_version": "Dragonfly", "garnet_version": "Garnet", "redis_version": "Redis",
}  # fmt: skip
"""By the field of INFO that has the version."""

STREAMS = frozenset({"XADD", "XLEN", "XRANGE", "XREAD", "XREVRANGE"})
PUBLISHING = frozenset({"SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE"})
PURPOSES = {
    "streams": (STREAMS, "every log is one"),
    "sharded pub/sub": (PUBLISHING, "by it readers receive what is appended, and workers wake"),
    "scripts": (frozenset({"EVAL", "EVALSHA"}), "by them every step is one change"),
}
"""What commands are for that a server may lack together."""

Publish = Callable[[str, bytes], Awaitable[Any]]
Check = Callable[[Names], Awaitable[list[str]]]


class Fitness:
    """What one server lacks, as the check found at most `KEPT_S` ago. Calls at the same time share a check."""

    def __init__(self) -> None:
        self._token = new_token()
        self._lock = asyncio.Lock()
        self._known: dict[tuple[Uses, str], tuple[float, str, list[str]]] = {}

    async def lacking(self, check: Check, uses: Uses, tag: str, run: str) -> list[str]:
        """One sentence for each thing that is missing. `check`: performs it with these names. `run`: another one where
        another server replies at the address.

        Raises:
            what the check raises.
        """
        async with self._lock:
            until, known_run, found = self._known.get((uses, tag), (0.0, "", []))
            if time.monotonic() >= until or known_run != run:
                found = await check(Names(tag, self._token))
                kept_s = UNFIT_S if found else KEPT_S
                self._known[uses, tag] = time.monotonic() + kept_s, run, found
            return found


async def check(connection: Any, publish: Publish, uses: Uses, names: Names) -> list[str]:
    """What a server lacks for these uses, on a connection of redis-py's that can do nothing else afterwards. `publish`
    sends a message on another connection.

    Raises:
        RedisError: the server is away, or cannot do now what it can at other times.
        RedisUnavailable, RedisRefused: of `publish`.
    """
    try:
        info = _parsed(await _ask(connection, [("INFO",)]))
    except ResponseError as error:
        return [_permission(error)]
    run = f"{info.get('run_id', '')} {info.get('master_replid', '')}"
    steps = steps_of(uses, names, run)
    replies = await _ask(connection, [step.command for step in steps])
    if any(isinstance(reply, NoScriptError) for reply in replies):
        steps = [step._replace(command=with_text(step.command)) if step.script else step for step in steps]
        replies = await _ask(connection, [step.command for step in steps])
    server = name_of(info)
    return _lacks(server, steps, replies) or await _not_received(connection, publish, names.channel, server)


async def _ask(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """The replies to commands in one write. A refusal is a value, and an error that passes is raised."""
    await connection.send_packed_command([pack(command) for command in commands])
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            if isinstance(error, INCONCLUSIVE):
                raise
            replies.append(error)
    return replies


def _lacks(server: str, steps: Sequence[Step], replies: Sequence[Any]) -> list[str]:
    """The causes, as far as single commands show them; otherwise what scripts do not do. A server without room refuses
    what needs some, which is another matter."""
    refused = [
        (step, reply)
        for step, reply in zip(steps, replies, strict=True)
        if isinstance(reply, ResponseError) and not isinstance(reply, OutOfMemoryError)
    ]
    alone = [(step, error) for step, error in refused if step.script is None or _is_of_command(error)]
    permissions = {_permission(error): None for _, error in alone if isinstance(error, NoPermissionError)}
    unknown = {step.name for step, error in alone if _is_unknown(error)}
    if found := [*permissions, *_features(server, unknown), *_flags(server, alone)]:
        return found
    others = {step.name: f"{server} refuses {step.name}: {_reason(error)}" for step, error in alone}
    return list(others.values()) or _failing_scripts(server, refused) or _wrong_answers(server, steps, replies)


def _features(server: str, unknown: set[str]) -> list[str]:
    found = []
    for feature, (commands, purpose) in PURPOSES.items():
        if lacking := sorted(unknown & commands):
            found.append(f"{server} has no {feature} ({', '.join(lacking)}): {purpose}")
            unknown = unknown - commands
    return [*found, *([f"{server} has no {', '.join(sorted(unknown))}"] if unknown else [])]


def _flags(server: str, refused: Sequence[tuple[Step, ResponseError]]) -> list[str]:
    """Scripts that begin with a line of flags, where those without one run."""
    errors = {step.command[1]: error for step, error in refused if step.name == "EVAL"}
    if PLAIN in errors:
        return []
    for text in (WITH_SHEBANG, WITH_FLAGS):
        if (error := errors.get(text)) and not isinstance(error, NoPermissionError):
            line = text.partition("\n")[0]
            return [f"{server} takes no flags of scripts ({line}): {FLAGS_PURPOSE} ({_reason(error)})"]
    return []


def _failing_scripts(server: str, refused: Sequence[tuple[Step, ResponseError]]) -> list[str]:
    """Scripts by the error that they end with."""
    failing: dict[str, list[str]] = {}
    for step, error in refused:
        if step.script:
            reason = _permission(error) if _is_permission(error) else _reason(error)
            failing.setdefault(reason, []).append(step.script.name)
    return [f"{server} fails in {_scripts(names)}: {reason}" for reason, names in failing.items()]


def _wrong_answers(server: str, steps: Sequence[Step], replies: Sequence[Any]) -> list[str]:
    """The first step with an answer that is not its own: those behind it follow from it. Where the server has no room,
    answers are those of a generation that was not created, and show nothing."""
    if any(isinstance(reply, OutOfMemoryError) for reply in replies):
        return []
    for step, reply in zip(steps, replies, strict=True):
        if step.answer is not None and (answer := _head(reply)) != step.answer:
            what = f"the script {step.script.name}" if step.script else step.name
            return [f"{server} fails in {what}: it answers {_shown(answer)} where {_shown(step.answer)} is right"]
    return []


async def _not_received(connection: Any, publish: Publish, channel: str, server: str) -> list[str]:
    """Publishes one message, and waits for it on this connection."""
    try:
        await _call(connection, "SSUBSCRIBE", channel)
        await publish(channel, MESSAGE)
        async with asyncio.timeout(RECEIVED_S):
            while _payload(await connection.read_response()) != MESSAGE:
                pass
        await _call(connection, "SUNSUBSCRIBE", channel)
    except TimeoutError:
        return [f"{server} does not deliver sharded pub/sub: another connection did not receive a message within 2 s"]
    except ResponseError as error:
        if isinstance(error, INCONCLUSIVE):
            raise
        if isinstance(error, NoPermissionError):
            return [_permission(error)]
        return _features(server, {"SSUBSCRIBE", "SUNSUBSCRIBE"})
    return []


async def _call(connection: Any, *command: str) -> Any:
    await connection.send_packed_command([pack(command)])
    return await connection.read_response()


def name_of(info: Mapping[str, str]) -> str:
    """A server's own name and version, where it reports one beside the version of Redis that it follows."""
    for field, name in NAMES.items():
        if version := info.get(field):
            return f"{name} {version.removeprefix('df-v')}"
    return "the server"


def _parsed(replies: Sequence[Any]) -> dict[str, str]:
    (reply,) = replies
    if isinstance(reply, ResponseError):
        raise reply
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _head(reply: Any) -> Any:
    return reply[0] if isinstance(reply, list) and reply else reply


def _payload(reply: Any) -> Any:
    return reply[-1] if isinstance(reply, list) and reply and reply[0] == b"smessage" else None


def _shown(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def _scripts(names: Sequence[str]) -> str:
    known = list(dict.fromkeys(names))
    shown = ", ".join(known[:MOST_NAMED]) + (f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else "")
    return f"the script{'s' if len(known) > 1 else ''} {shown}"


def _is_of_command(error: ResponseError) -> bool:
    """Whether a script was not even called."""
    return isinstance(error, NoPermissionError) or _is_unknown(error)


def _is_unknown(error: ResponseError) -> bool:
    return str(error).lower().startswith("unknown command")


def _is_permission(error: ResponseError) -> bool:
    """Redis 7.0 refuses a command in a script by a text of its own."""
    return isinstance(error, NoPermissionError) or "ACL failure" in str(error) or "user executing" in str(error)


def _permission(error: ResponseError) -> str:
    return f"this Redis user lacks a permission that Tailrace needs: {_reason(error)}"


def _reason(error: ResponseError) -> str:
    """The server's message, without the digest of a script and its line."""
    return str(error).partition(" script: ")[0].partition(", with args beginning")[0]
