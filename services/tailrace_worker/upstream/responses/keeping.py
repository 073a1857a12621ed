"""The dialect for an answer that the upstream may run in its background."""

from functools import partial

from tailrace_worker.upstream.background import BackgroundResponse
from tailrace_worker.upstream.dialect import Dialect
from tailrace_worker.upstream.responses.stream import open_stream
from tailrace_worker.upstream.responses.translator import ResponsesTranslator


def keeping(background: BackgroundResponse) -> Dialect:
    """The answer is that of the response which an earlier attempt has left at the upstream, where there is one."""
    return Dialect(partial(open_stream, background=background), ResponsesTranslator)
