"""An upstream's answer: what it sent, and what each format sends of it."""

from collections.abc import Iterable

from support.chat_chunks import Json
from support.chunk_fold import fold_chunks
from support.format_folds import (
    ResponseFold,
    as_response_items,
    as_ui_parts,
    data_of,
    fold_events,
    native_events,
    ndjson_events,
    ui_parts,
)
from support.logs import COALESCE, RECORDS, done_of, log_of_payloads, record
from support.ui_message_reader import UiMessageReader
from support.wire_parsing import encoded
from tailrace.events import Done, Entry
from tailrace.wire import WIRE_FORMATS
from tailrace_worker.upstream.sse import Splitter

MAX_EVENT = 1 << 20
ABORTED = ("error", "insufficient_system_resource")
"""Finish reasons with which an upstream reports that it aborted the answer."""


def payloads_of(reads: Iterable[bytes]) -> list[bytes]:
    """What the splitter makes of a body that arrives in these reads."""
    splitter = Splitter(MAX_EVENT)
    return [payload for read in reads for payload in splitter.feed(read)] + splitter.close()


class UpstreamAnswer:
    """Its chunks, their sum, and its log for one of the records that change what formats send (`RECORDS`).

    `chunks` are those that the body in `reads` holds.
    """

    def __init__(self, chunks: list[Json], reads: list[bytes], how: str) -> None:
        self.chunks = chunks
        self.sent = fold_chunks(chunks)
        self.record = record(**RECORDS[how])
        self.entries: list[Entry] = log_of_payloads(payloads_of(reads), self.record, COALESCE[how])
        self.done: Done = done_of(self.entries)

    @property
    def error(self) -> str | None:
        """The message of the error that the upstream sent, in whatever form, or that its finish reason implies."""
        error = self.sent["error"]
        if isinstance(error, dict):
            return str(error["message"])
        reasons = [each["finish_reason"] for each in self.sent["choices"].values()]
        aborted = next((reason for reason in reasons if reason in ABORTED), None)
        return error or (aborted and f"The upstream aborted the answer (finish reason `{aborted}`).")

    @property
    def expected(self) -> Json:
        """The sum that every format without limits has."""
        return {**self.sent, "error": self.error}

    @property
    def expected_of_chat(self) -> Json:
        return self.expected | ({} if self.record.include_usage else {"usage": None})

    def frames(self, wire: str) -> bytes:
        return encoded(WIRE_FORMATS[wire], self.record, self.entries)

    def shown(self, folded: Json) -> Json:
        """A fold of ours, comparable: the message of its error, and no usage that is only an estimate."""
        usage, error = folded["usage"], folded["error"]
        return {
            **folded,
            "usage": None if usage and usage.get("estimated") else usage,
            "error": error and error["message"],
        }

    @property
    def text(self) -> str:
        """What the format `text` has."""
        items = self.sent["items"]
        return "".join(item["text"] for item in items if item["choice"] == 0 and item["type"] in ("text", "refusal"))

    def differences(self) -> list[str]:
        """The streams whose sum differs from the sum of what the upstream sent."""
        expected = self.expected
        found = {
            "native": self.shown(fold_events(native_events(self.frames("native")))) == expected,
            "ndjson": self.shown(fold_events(ndjson_events(self.frames("ndjson")))) == expected,
            "openai-chat": self.shown(fold_chunks(data_of(self.frames("openai-chat")))) == self.expected_of_chat,
            "openai-responses": self.items_of_responses("openai-responses")
            == self.in_any_order(as_response_items(self.sent["items"])),
            "ui-messages": self._ui_texts() == [each for each in as_ui_parts(self.sent["items"]) if "text" in each],
            "text": self.frames("text").decode() == self.text,
        }
        return [name for name, is_equal in found.items() if not is_equal]

    def items_of_responses(self, wire: str) -> list[Json]:
        items = ResponseFold(data_of(self.frames(wire))).items
        return self.in_any_order([item for item in items if item["text"] or item["type"] == "call"])

    def in_any_order(self, items: list[Json]) -> list[Json]:
        """Sorted, where there are several choices: a Response does not name the choice of an item."""
        return items if len(self.sent["choices"]) == 1 else sorted(items, key=repr)

    def _ui_texts(self) -> list[Json]:
        return [part for part in ui_parts(UiMessageReader.of(self.frames("ui-messages")).parts) if "text" in part]
