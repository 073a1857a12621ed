"""The usual pattern's worker: iterate the SDK's stream, await an `XADD` for each chunk.

    OPENAI_BASE_URL=… REDIS_URL=… python -m bench.naive.worker      a number on stdin starts so many answers

uvloop, hiredis, one client and one pool for all answers. It has no queue, leases, cancellation or timeouts, which is in
its favour.
"""

import asyncio
import itertools
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


async def main() -> None:
    redis: Redis = Redis.from_url(os.environ["REDIS_URL"])
    lines, numbers = asyncio.StreamReader(), itertools.count()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with AsyncOpenAI(api_key="none") as upstream, asyncio.TaskGroup() as generating:
        while line := await lines.readline():
            for _ in range(int(line)):
                generating.create_task(generate(upstream, redis, f"stream-{next(numbers)}"))


if __name__ == "__main__":
    uvloop.run(main())
