"""A log as a Starlette response: what `POST /v1/generations` answers to `Accept: text/event-stream`."""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tailrace.log import State
from tailrace.wire import Wire
from tailrace_frontend.connection import SCOPE
from tailrace_frontend.hub import Hub
from tailrace_frontend.reader import Reader


class LogResponse(Response):
    """Tells the log from its beginning."""

    def __init__(
        self, hub: Hub, wire: Wire, state: State, may_read: Callable[[str], bool], headers: dict[str, str]
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self._told = hub, wire, state, may_read
        self.init_headers(headers)

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        hub, wire, state, may_read = self._told
        own = [(name, value) for name, value in self.raw_headers if name in (b"location", b"vary")]
        own += [(name, value) for name, value in self.raw_headers if name.startswith(b"access-control-")]
        await Reader(hub, wire, state, None, scope[SCOPE], send, may_read).run(own)
