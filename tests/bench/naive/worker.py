"""The usual pattern's worker: iterate the SDK's stream, await an `XADD` for each chunk.

    OPENAI_BASE_URL=… REDIS_URL=… python -m bench.naive.worker 60

uvloop, hiredis, one client and one pool for all answers. To its favour it has no queue, leases, cancellation or
timeouts: it starts so many answers and writes what they say.
"""

import asyncio
import json
import os
import sys

import uvloop
from openai import AsyncOpenAI
from redis.asyncio import Redis


async def generate(upstream: AsyncOpenAI, redis: Redis, name: str) -> None:
    stream = await upstream.chat.completions.create(
        model="bench", messages=[{"role": "user", "content": "Go on."}], stream=True
    )
    async for chunk in stream:
        if chunk.choices and (text := chunk.choices[0].delta.content):
            await redis.xadd(name, {"text": json.dumps({"text": text})})
    await redis.xadd(name, {"done": json.dumps({"status": "completed"})})


async def main(answers: int) -> None:
    redis: Redis = Redis.from_url(os.environ["REDIS_URL"])
    async with AsyncOpenAI(api_key="none") as upstream, asyncio.TaskGroup() as generating:
        for number in range(answers):
            generating.create_task(generate(upstream, redis, f"stream-{number}"))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
