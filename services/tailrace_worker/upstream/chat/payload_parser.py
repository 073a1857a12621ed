"""Payloads of an answer in, pieces out.

The chunks of an answer are alike: what differs is the text. So a chunk that said one plain piece of text, and nothing
beside it, is a template: a payload with the same bytes before and behind its `content` is the same JSON with another
string, and says the same with another text. Two comparisons and one string stand for a parse and a translation, for
nearly all there is.

Padding against eavesdroppers, which OpenAI adds to each chunk, says nothing and is cut off before.
"""

import re

import msgspec

from tailrace import jsoncodec
from tailrace.events import NO_EXTRA, Json, Text
from tailrace_worker.upstream.chat.translator import ChatTranslator, Translated

CONTENT = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*")')
PADDING = re.compile(rb',"obfuscation":"[^"\\]*"}$')
_string = msgspec.json.Decoder(str)


class Payloads:
    """Reads one answer. `garbage`: payloads that were no JSON objects, skipped."""

    def __init__(self, translator: ChatTranslator) -> None:
        self.garbage = 0
        self._translator = translator
        self._before = self._behind = b""
        self._choice = 0

    def read(self, payload: bytes) -> list[Translated]:
        if payload.endswith(b'"}'):
            payload = PADDING.sub(b"}", payload)
        if self._before and (text := self._text_in(payload)):
            return [self._translator.continue_text(self._choice, text)]
        try:
            chunk = jsoncodec.loads_tolerant(payload)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            self.garbage += 1
            return []
        pieces = self._translator.translate(chunk)
        self._before = b""
        if len(pieces) == 1:
            self._learn(payload, chunk, pieces[0])
        return pieces

    def _text_in(self, payload: bytes) -> str | None:
        """The text of a payload that is like the template; None if it is not, or says it in a way to be read whole."""
        if not (payload.startswith(self._before) and payload.endswith(self._behind)):
            return None
        try:
            return _string.decode(payload[len(self._before) : len(payload) - len(self._behind)])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _learn(self, payload: bytes, chunk: Json, piece: Translated) -> None:
        """What says the same once more: one text, told as the `content` of the only choice's delta and nowhere else."""
        event, extra = piece
        contents = CONTENT.finditer(payload)
        found, another = next(contents, None), next(contents, None)
        if type(event) is not Text or extra is not NO_EXTRA or not found or another:
            return
        match chunk["choices"]:
            case [{"delta": {"content": event.text}}]:
                self._before, self._behind = payload[: found.start(1)], payload[found.end(1) :]
                self._choice = event.choice
