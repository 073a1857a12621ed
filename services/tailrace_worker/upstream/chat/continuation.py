"""The dialect for the rest of an answer whose text is open in the log."""

from functools import partial

from tailrace_worker.upstream.chat.stream import open_stream
from tailrace_worker.upstream.chat.translator import ChatTranslator
from tailrace_worker.upstream.dialect import Dialect, PartialAnswer


def continuing(answer: PartialAnswer) -> Dialect:
    """Requests end with the text so far, and their answers continue it.

    A request must be for an upstream whose profile `continues`.
    """
    return Dialect(partial(open_stream, text=answer.text), partial(ChatTranslator, continued=answer))
