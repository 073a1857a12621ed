"""A log as a Starlette response: what `POST /v1/generations` answers to `Accept: text/event-stream`."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.errors import RateLimited
from tailrace.log.state import GenerationState
from tailrace.wire import WIRES
from tailrace_frontend.services import Services


class LogResponse(Response):
    """Tells the log from its beginning.

    Where the last place for a reader was taken while the generation was created, its client is asked to come again:
    the generation is there, and `Location` says where.
    """

    def __init__(self, services: Services, state: GenerationState, headers: dict[str, str]) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._services = services
        self._state = state
        self.init_headers(headers)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        own = [(name, value) for name, value in self.raw_headers if name in (b"location", b"vary")]
        own += [(name, value) for name, value in self.raw_headers if name.startswith(b"access-control-")]
        try:
            reader = self._services.admit_reader(WIRES["native"], self._state, None, scope, send)
        except RateLimited as error:
            await self._services.defer_stream(error, own, send)
        else:
            await reader.run(own)
