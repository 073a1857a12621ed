"""The plain route, written well: FastAPI validates a Chat Completions body, arq enqueues a job, 202.

No log, no owner, no limits, no idempotency, and a job lost with its Redis is lost. arq's own `enqueue_job`, with
hiredis.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from fastapi import FastAPI, Request
from pydantic import BaseModel


class Message(BaseModel):
    role: str
    content: str


class Body(BaseModel):
    model: str
    messages: list[Message]
    stream: bool = False


class Accepted(BaseModel):
    id: str
    status: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.queue = await create_pool(RedisSettings.from_dsn(os.environ["REDIS_URL"]))
    yield
    await app.state.queue.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/v1/generations", status_code=202)
async def create(body: Body, request: Request) -> Accepted:
    queue: ArqRedis = request.app.state.queue
    job: Any = await queue.enqueue_job("run_generation", body.model_dump(), _job_id=uuid.uuid4().hex)
    return Accepted(id=job.job_id, status="queued")
