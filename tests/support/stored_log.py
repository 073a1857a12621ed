"""A generation on a real Redis: its stored keys, and the ways in which it may be lost, changed or removed."""

from typing import Any

from redis.asyncio import Redis

from support.log_writer import LogWriter
from support.logs import REQUEST, text_opened, texts
from support.logs import record as record_of
from tailrace import keys
from tailrace.events import Done, Entry, Started
from tailrace.ids import START, EntryId, new_generation_id
from tailrace.log import Log, ReadableLog

STARTED = Started(1, 0.25)
ANSWER = (STARTED, text_opened(), *texts("Once| upon| a| time"))
HOUR_MS = 3_600_000


async def create_generation(log: Log, **changes: Any) -> str:
    """The id of a new generation; `changes`: fields of its record."""
    record = record_of(id=new_generation_id(), **changes)
    await log.create(record, REQUEST, "first job")
    return record.id


async def read_all(log: Log, generation_id: str, after: EntryId = START) -> list[Entry]:
    return [entry async for entry in log.read_all(generation_id, after)]


async def stored_entries(redis: Redis, generation_id: str) -> list[Any]:
    """The Redis Stream, byte for byte."""
    entries: list[Any] = await redis.xrange(keys.log(generation_id))
    return entries


async def ttls_ms(redis: Redis, generation_id: str) -> list[int]:
    """Times to live of state, log and tombstone; -1: no expiry, -2: no such key."""
    return [await redis.pttl(key) for key in keys.of_generation(generation_id)[:3]]


async def expire(redis: Redis, generation_id: str) -> None:
    """Remove the keys that Redis removes after the retention; the tombstone stays."""
    await redis.delete(keys.state(generation_id), keys.log(generation_id))


async def lose(redis: Redis, generation_id: str) -> None:
    """Remove all keys, as when a server restarts without its data."""
    await redis.delete(*keys.of_generation(generation_id))


async def expire_lease(redis: Redis, generation_id: str) -> None:
    await redis.execute_command("HSET", keys.state(generation_id), "lease", 1)


class Snapshot:
    """The keys of a generation at some moment, to be brought back as after a restart with older data."""

    def __init__(self, redis: Redis, dumps: dict[str, Any]) -> None:
        self._redis = redis
        self._dumps = dumps

    @classmethod
    async def take(cls, redis: Redis, generation_id: str) -> "Snapshot":
        return cls(redis, {key: await redis.dump(key) for key in keys.of_generation(generation_id)[:3]})

    async def bring_back(self) -> None:
        for key, dump in self._dumps.items():
            await self._redis.restore(key, HOUR_MS, dump, replace=True)


async def apply_fate(fate: str, log: Log, redis: Redis, writer: LogWriter) -> None:
    """Change a generation that is being written, according to `fate`."""
    match fate:
        case "finished":
            await writer.finish()
        case "deleted":
            await log.delete(writer.generation_id)
        case "expired":
            await expire(redis, writer.generation_id)
        case "lost":
            await lose(redis, writer.generation_id)
        case "taken over":
            await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
        case "taken over and finished":
            ender = await LogWriter.acquire(log, writer.generation_id, "end", terminating="cancelled")
            await ender.finish("cancelled")


async def entries_of(log: ReadableLog, generation_id: str, after: EntryId = START, limit: int = 1000) -> list[Entry]:
    """Up to `limit` entries that follow the cursor."""
    return (await log.page(generation_id, after, limit)).entries


async def done_of_log(log: ReadableLog, generation_id: str) -> Done | None:
    """The end of a log, if it has one."""
    entries = await entries_of(log, generation_id, limit=100_000)
    return entries[-1].event if entries and isinstance(entries[-1].event, Done) else None
