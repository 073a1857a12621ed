"""Requests of the Responses API, and the events of its streams."""

import json
from typing import Any, NamedTuple

from support.api import Api, Response

PATH = "/v1/responses"
DONE = b"data: [DONE]"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "input": "Hello?"} | fields


class Frames(NamedTuple):
    """The frames of a stream; the last one is `[DONE]` where the stream ended regularly."""

    status: int
    generation_id: str | None
    frames: list[bytes]

    @property
    def events(self) -> list[Any]:
        return [json.loads(frame.split(b"data: ", 1)[1]) for frame in self.frames if frame != DONE]

    @property
    def types(self) -> list[str]:
        return [event["type"].removeprefix("response.") for event in self.events]

    @property
    def is_whole(self) -> bool:
        return self.frames[-1] == DONE


class Responses:
    """One caller of the Responses API."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def post(self, path: str = "", **fields: Any) -> Response:
        headers = fields.pop("headers", None)
        return await self.api.request("POST", PATH + path, json=body(**fields), headers=headers)

    async def create(self, **fields: Any) -> str:
        """The id of a response in the background."""
        response = await self.post(background=True, **fields)
        assert response.status == 200, response
        response_id: str = response.value["id"]
        return response_id

    async def get(self, response_id: str, query: str = "") -> Response:
        return await self.api.request("GET", f"{PATH}/{response_id}{query}")

    async def stream(self, response_id: str, query: str = "") -> Frames:
        """The whole stream."""
        response = await self.get(response_id, f"?stream=true{query}")
        return frames_of(response)

    async def cancel(self, response_id: str) -> Response:
        return await self.api.request("POST", f"{PATH}/{response_id}/cancel")

    async def delete(self, response_id: str) -> Response:
        return await self.api.request("DELETE", f"{PATH}/{response_id}")

    async def items(self, response_id: str, query: str = "") -> Response:
        return await self.api.request("GET", f"{PATH}/{response_id}/input_items{query}")


def frames_of(response: Response) -> Frames:
    frames = response.body.split(b"\n\n")
    assert frames.pop() == b""
    kept = [frame for frame in frames if not frame.startswith(b":")]
    return Frames(response.status, response.headers.get("x-tailrace-generation"), kept)


def generation_id_of(response_id: str) -> str:
    return "gen_" + response_id.removeprefix("resp_")
