"""A log as a Starlette response: the answer to `POST /v1/generations` with `Accept: text/event-stream`, and to
`POST /api/chat`."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.log.state import GenerationState
from tailrace.wire import WireFormat
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http.stream_endpoint import GENERATION_HEADER, send_log
from tailrace_frontend.services import Services

CREATED_HEADERS = (b"location", b"vary", GENERATION_HEADER.encode())


class LogResponse(Response):
    """Sends the log from its beginning.

    The headers name the generation, also where the client only gets a retry hint or 429, because the last place for a
    stream was taken while the generation was created.
    """

    def __init__(
        self, services: Services, wire: WireFormat, state: GenerationState, caller: ApiKey, headers: dict[str, str]
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._services = services
        self._wire = wire
        self._state = state
        self._caller = caller
        self.init_headers(headers)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        extra = [
            (name, value)
            for name, value in self.raw_headers
            if name in CREATED_HEADERS or name.startswith(b"access-control-")
        ]
        await send_log(self._services, self._wire, self._state, self._caller, extra, scope, send)
