"""Payloads of one answer in, events out.

The chunks of an answer are alike: they differ in their text. So a chunk that held one fragment of text and nothing
else becomes a template: a payload with the same bytes before and after its `content` is the same JSON with another
string, and its event is the same with another text. Two comparisons and one string replace a parse and a translation
for nearly every chunk: 0.9 µs instead of 7.

OpenAI pads each chunk against eavesdroppers who measure lengths; the padding is cut off before the comparison.
"""

import re

import msgspec

from tailrace import jsoncodec
from tailrace.events import NO_EXTRA, Json, Text
from tailrace_worker.upstream.chat.translator import ChatTranslator, Translated

CONTENT = re.compile(rb'"content": ?("(?:[^"\\]|\\.)*")')
PADDING = re.compile(rb',"obfuscation":"[^"\\]*"}$')
_string = msgspec.json.Decoder(str)


class PayloadParser:
    """Reads one answer. `malformed` counts payloads that were no JSON objects and were skipped."""

    def __init__(self, translator: ChatTranslator) -> None:
        self.malformed = 0
        self._translator = translator
        self._prefix = self._suffix = b""
        self._choice = 0

    def read(self, payload: bytes) -> list[Translated]:
        """The events of one payload."""
        if payload.endswith(b'"}'):
            payload = PADDING.sub(b"}", payload)
        if self._prefix and (text := self._text_in(payload)):
            return [self._translator.continue_text(self._choice, text)]
        try:
            chunk = jsoncodec.loads_tolerant(payload)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            self.malformed += 1
            return []
        translated = self._translator.translate(chunk)
        self._prefix = b""
        if len(translated) == 1:
            self._set_template(payload, chunk, translated[0])
        return translated

    def _text_in(self, payload: bytes) -> str | None:
        """The text of a payload that matches the template; None if it does not match, or must be parsed leniently."""
        if not (payload.startswith(self._prefix) and payload.endswith(self._suffix)):
            return None
        try:
            return _string.decode(payload[len(self._prefix) : len(payload) - len(self._suffix)])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _set_template(self, payload: bytes, chunk: Json, translated: Translated) -> None:
        """Make the payload the template if its only text is the `content` of the only choice's delta."""
        event, extra = translated
        contents = CONTENT.finditer(payload)
        found, another = next(contents, None), next(contents, None)
        if type(event) is not Text or extra is not NO_EXTRA or not found or another:
            return
        match chunk["choices"]:
            case [{"delta": {"content": event.text}}]:
                self._prefix, self._suffix = payload[: found.start(1)], payload[found.end(1) :]
                self._choice = event.choice
