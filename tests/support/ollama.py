"""A stand-in for Ollama: it lists its models, and answers those with a few words."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ("A ", "river ", "carries ", "its ", "bed ", "along.")


def ollama(models: Sequence[str] = ("llama3.2:latest", "qwen3:8b")) -> Starlette:
    """The application. Without models its list is null, as Ollama's is."""

    async def list_models(_: Request) -> Response:
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "library"} for name in models]
        return JSONResponse({"object": "list", "data": rows or None})

    async def chat(request: Request) -> Response:
        model = (await request.json())["model"]
        if model not in models:
            error = {"message": f"model '{model}' not found", "type": "not_found_error", "param": None, "code": None}
            return JSONResponse({"error": error}, 404)
        return StreamingResponse(answer(model), media_type="text/event-stream")

    return Starlette(
        routes=[Route("/v1/models", list_models), Route("/v1/chat/completions", chat, methods=["POST"])],
    )


async def answer(model: str) -> AsyncIterator[str]:
    """Chunks of Chat Completions, a word each."""
    for word in WORDS:
        yield _chunk(model, {"role": "assistant", "content": word}, None)
        await asyncio.sleep(0.01)
    yield _chunk(model, {"role": "assistant", "content": ""}, "stop")
    yield "data: [DONE]\n\n"


def _chunk(model: str, delta: dict[str, str], finish_reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"
