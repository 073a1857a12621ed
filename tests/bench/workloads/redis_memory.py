"""Memory of a token in Redis: logs with and without 10,000 deltas, one token an entry.

`MEMORY USAGE … SAMPLES 0` of the log's key, the difference a token. The tokens are the demo model's prose, cut in the
same way (up to six letters, with the space before).
"""

from collections.abc import Sequence
from statistics import fmean

from redis.asyncio import Redis

from bench.children import load
from bench.harness import product
from bench.measures import Finding
from tailrace import keys
from tailrace_demo.answers import PIECE
from tailrace_demo.prose import long_answer

TOKENS = 10_000


async def redis_memory(seconds: float) -> Sequence[Finding]:
    texts = PIECE.findall(long_answer())
    async with product() as stack:
        redis: Redis = Redis.from_url(stack.redis.url)
        ours = await growth(redis, "log", stack.redis.url, texts)
        naive = await growth(redis, "naive", stack.redis.url, texts)
        await redis.aclose()
    length = fmean(len(texts[i % len(texts)].encode()) for i in range(TOKENS))
    return [Finding("redis/bytes", ours, {"bytes of text": length, "naive: bytes": naive})]


async def growth(redis: Redis, sink: str, url: str, texts: Sequence[str]) -> float:
    """Bytes a token: the size of a log with tokens less that of one without."""
    async with load("bench.appending", sink, url) as append:
        names = await append.do("create", logs=2)
        await append.do("fill", logs=[1], tokens=TOKENS, texts=texts, end=False)
        await append.do("fill", logs=[0], tokens=1, texts=texts, end=False)
    keys_of = [keys.log(name) if sink == "log" else name for name in names]
    empty, full = [int(await redis.memory_usage(key, samples=0) or 0) for key in keys_of]
    return (full - empty) / (TOKENS - 1)
