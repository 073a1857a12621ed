"""Whether an answer is the JSON that its request asked for: `done.format`.

Short text without a schema is parsed here. All else is checked by a process of its own (`schema_validation`), because
a schema may take any time and memory. It is started with the first such answer (0.1 s), and again after one that ended
it. A check costs 50 µs beside the comparison, the process 21 MB (measured). An answer waits `WAIT_S` at most for its
turn and its check. Without a check, `valid` is unknown, and `error` has the reason. A caller whose schema has ended the
process has no other one applied for `PAUSE_S`: the checks of all callers wait for each such schema.
"""

import asyncio
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import msgspec

from tailrace import jsoncodec
from tailrace.events import Format, GenerationRecord, Item, Json
from tailrace.translation import json_format_of
from tailrace.wire import json_value
from tailrace_worker import schema_validation

INLINE_BYTES = 64 * 1024
WAIT_S = 5.0
PAUSE_S = 60.0
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "TZ")
"""All others may be secrets."""

NO_TEXT = Format(parsed=False, error="There is no text.")
REFUSED = Format(parsed=False, error="The model refused to answer.")
TOO_LONG = f"The schema was not applied: that takes longer than {schema_validation.TIME_S:g} s, or too much memory."
BUSY = "The schema was not applied: too many answers are compared with theirs."
PAUSED = f"The schema was not applied: one of the caller's took too long within the last {PAUSE_S:g} s."
NO_PROCESS = "The schema was not applied: the process for it cannot be started."

logger = logging.getLogger(__name__)


class JsonChecker:
    """The checks of one worker, one at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._process: Process | None = None
        self._paused: dict[str, float] = {}
        """Callers, and until when (`time.monotonic()`)."""

    async def check(self, record: GenerationRecord, request: Json, items: list[Item]) -> Format | None:
        """The verdict on a whole output. None: no JSON is asked for, or the answer is calls without a text."""
        form = json_format_of(record.api, request) if record.structured else None
        if form is None:
            return None
        if text := json_value.text_of(items):
            return await self.check_text(text, form.schema, record.owner)
        if json_value.refusal_of(items):
            return REFUSED
        return None if any(item.type == "call" and not item.choice for item in items) else NO_TEXT

    async def check_text(self, text: bytes, schema: Json | None, owner: str = "") -> Format:
        """The verdict on a text. `schema`: None for any JSON value."""
        if schema is None and len(text) <= INLINE_BYTES:
            return msgspec.convert(schema_validation.verdict(b"", text), Format)
        encoded = b"" if schema is None else jsoncodec.dumps(schema)
        try:
            async with asyncio.timeout(WAIT_S), self._turn:
                if not encoded or self._paused.get(owner, 0.0) <= time.monotonic():
                    return await self._ask(encoded, text)
            reason = PAUSED
        except (asyncio.IncompleteReadError, ConnectionError):
            reason = TOO_LONG
            self._pause(owner)
        except TimeoutError:
            reason = BUSY
        except OSError:
            logger.exception("schemas cannot be applied")
            reason = NO_PROCESS
        logger.warning("%s", reason)
        parsed = await asyncio.to_thread(schema_validation.verdict, b"", text)
        verdict = msgspec.convert(parsed, Format)
        return msgspec.structs.replace(verdict, error=reason) if verdict.parsed and encoded else verdict

    def _pause(self, owner: str) -> None:
        now = time.monotonic()
        self._paused = {each: until for each, until in self._paused.items() if until > now} | {owner: now + PAUSE_S}

    async def _ask(self, schema: bytes, text: bytes) -> Format:
        """
        Raises:
            IncompleteReadError, ConnectionError: the process has ended instead.
            OSError: there is no process.
        """
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._start()
        self._process = None  # until it has answered: a reply that no call waits for must not be that of the next one
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.writelines([schema_validation.REQUEST.pack(len(schema), len(text)), schema, text])
            await process.stdin.drain()
            (size,) = schema_validation.REPLY.unpack(await process.stdout.readexactly(schema_validation.REPLY.size))
            reply = await process.stdout.readexactly(size)
        except BaseException:
            await _end(process)
            raise
        self._process = process
        return msgspec.json.decode(reply, type=Format)

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(Path(schema_validation.__file__)),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True,
        )  # fmt: skip

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process:
            await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    if process.stdin:
        process.stdin.close()
    await process.wait()
