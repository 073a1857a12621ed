"""The events of a response, from its beginning or behind a number: also those of a response that has failed."""

from starlette.types import Scope, Send

from tailrace.ids import EntryId
from tailrace.log.state import GenerationState
from tailrace.wire import WireFormat
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http.openai.answers import StreamedAnswer
from tailrace_frontend.http.openai.lookup import headers_of
from tailrace_frontend.http.stream_endpoint import bind_encoder, connect
from tailrace_frontend.services import Services
from tailrace_frontend.streaming.stream_connection import StreamConnection


class ReplayedAnswer(StreamedAnswer):
    """Its status is sent at once, because every end of a response is one of its events.

    `after`: the last entry that the client has whole. `seen_to`: the last sequence number that it has.
    """

    def __init__(
        self, services: Services, caller: ApiKey, state: GenerationState, wire: WireFormat, after: EntryId,
        seen_to: int = -1, *, may_repeat: bool,
    ) -> None:  # fmt: skip
        super().__init__(services, caller, state, wire, after, may_repeat=may_repeat)
        self._seen_to = seen_to

    async def _open(self, scope: Scope, send: Send) -> StreamConnection:
        services, state = self._services, self._state
        encode = await bind_encoder(services, self._wire, state)
        extra = [(name.encode(), value.encode()) for name, value in headers_of(state).items()]
        return connect(
            services, self._wire, encode, state, self._after, self._caller, extra, scope, send, self._seen_to
        )
