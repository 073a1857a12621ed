"""A queue on a given client, as a process with the default settings has it; and generations in it."""

from redis.asyncio import Redis

from support.logs import REQUEST
from tailrace.events import GenerationRecord, Json
from tailrace.log import Log
from tailrace.queue import Queue, RightOf, Submission, job_id_of
from tailrace.queue.rights import EQUAL
from tailrace.redis.server import RedisServer

LEASE_MS = 5000
LONGEST_LIFE_S = 7206


def queue_on(
    redis: Redis,
    *,
    lease_ms: int = LEASE_MS,
    longest_life_s: int = LONGEST_LIFE_S,
    right_of: RightOf = lambda _: EQUAL,
) -> Queue:
    return Queue(RedisServer(redis), lease_ms=lease_ms, longest_life_s=longest_life_s, right_of=right_of)


async def submit(log: Log, queue: Queue, record: GenerationRecord, request: Json = REQUEST) -> Submission | None:
    """Create a generation and ask for a run of it, as a frontend does; None where it does not wait any more."""
    created, job_id = await log.create(record, request, job_id_of(record.owner))
    return None if job_id is None else await queue.submit(record, created, job_id)
