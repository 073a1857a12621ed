"""The table of upstream APIs that a worker can call. A further one is one folder beside `chat/` and one row here."""

from typing import NamedTuple

from tailrace.translation import DialectName
from tailrace_worker.upstream.chat.continuation import continuing
from tailrace_worker.upstream.chat.stream import open_stream as open_chat
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.responses.keeping import keeping
from tailrace_worker.upstream.responses.stream import open_stream as open_responses
from tailrace_worker.upstream.responses.translator import ResponsesTranslator

DIALECTS: dict[DialectName, Dialect] = {
    "chat": Dialect(open_chat, ChatTranslator, continuing),
    "responses": Dialect(open_responses, ResponsesTranslator, keeping=keeping),
}


class Description(NamedTuple):
    """What `docs/upstreams.md` has of a dialect: its address under `base_url`, what ends an answer, what becomes of
    requests of Chat Completions and of Responses, and whether a lost connection is taken up."""

    address: str
    end: str
    chat: str
    responses: str
    taken_up: str


DESCRIPTIONS: dict[DialectName, Description] = {
    "chat": Description(
        "`/chat/completions`",
        "`[DONE]`, or a finish reason of every choice",
        "sent as they came",
        "translated; what has no place is refused",
        "no: the answer starts over, or ends",
    ),
    "responses": Description(
        "`/responses`",
        "`response.completed`, `.incomplete` or `.failed`; `[DONE]` alone ends nothing",
        "translated; what has no place is refused",
        "sent as they came, but for what is Tailrace's",
        "with `background`, behind the last event; by another worker from its beginning; without a second call",
    ),
}
