"""The table of upstream APIs that a worker can call. A further one is one folder beside `chat/` and one row here."""

from tailrace_worker.upstream.chat.stream import open_stream
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Dialect

DIALECTS: dict[str, Dialect] = {
    "chat-completions": Dialect(open_stream, ChatTranslator),
}
DEFAULT_DIALECT = "chat-completions"
