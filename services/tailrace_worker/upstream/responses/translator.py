"""Responses events in, events of the log out.

    payload ──▶ a plain delta, or an event                                           (`payload`)
    event   ──▶ the answer's id, model, usage, end                                   (here)
            ──▶ the item that it belongs to                                          (`output`)
    item    ──▶ items of text, reasoning, refusal and calls, and all others          (`items`)

Rule 1: nothing is dropped but padding, numbers of events, null and repetitions. A field that the log has no place for
is carried beside it, and shown in Responses where it was (`known`); an event of no item is carried in `extra`.
Rule 2: nothing raises. A malformed value is skipped and counted in `malformed`.
Rule 3: what the end of the answer repeats is compared with what was streamed (`items`, rule 3).
"""

from tailrace.events import NO_EXTRA, Extra, Failure, FinalStatus, Finish, Json, Upstream
from tailrace.failures import failure
from tailrace_worker.upstream.dialect import Translated
from tailrace_worker.upstream.error_texts import error_in
from tailrace_worker.upstream.errors import failure_from_json
from tailrace_worker.upstream.fields import NOTHING, ChangedFields
from tailrace_worker.upstream.redaction import Redact, unchanged
from tailrace_worker.upstream.responses import known
from tailrace_worker.upstream.responses.output import HANDLERS, Output
from tailrace_worker.upstream.responses.payload import TextDelta, parsed, plain_delta
from tailrace_worker.upstream.responses.state import AnswerState

END = b"[DONE]"

FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Of an incomplete Response; any other reason is kept as it is."""

STATES = frozenset({"created", "queued", "in_progress"})
ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""Names of the events with a Response, behind `response.`."""


class ResponsesTranslator:
    """Translates one answer: the `Translator` of Responses."""

    def __init__(
        self,
        *,
        first_item: int = 0,
        first_index: int | None = None,
        logprobs: bool = False,
        redact: Redact = unchanged,
    ) -> None:
        self.failure: Failure | None = None
        self._redact = redact
        self.status: FinalStatus = "completed"
        self._state = AnswerState(first_item, first_item if first_index is None else first_index, logprobs=logprobs)
        self._output = Output(self._state)
        self._fields = ChangedFields(self._state.reader)
        self._fields.take_changes()  # no entry carries them, so none has their first values
        self._has_ended = False
        self._reason = ""
        self._id = self._model = ""
        self._usage: Json = NOTHING

    def read(self, payload: bytes) -> list[Translated]:
        """The events of one payload."""
        delta, output = plain_delta(payload), self._output
        if delta is not None:
            part = output.part
            if (
                part
                and type(delta) is TextDelta
                and output.place == (delta.item_id, delta.output_index, delta.content_index)
                and delta.delta
                and not (delta.logprobs or part.pending_surrogate or self._state.unknown)
            ):
                part.texts.append(delta.delta)
                return [Translated(part.delta(delta.delta), NO_EXTRA)]
            if output.add_plain(delta):
                return self._state.take()
        elif payload.startswith(END):
            return []
        event = parsed(payload)
        if event is None:
            self._state.reader.malformed += 1
            return []
        return self.translate(event)

    def translate(self, event: Json) -> list[Translated]:
        """The events of one parsed event."""
        kind = known.text_of(event.get("type"))
        name = kind.removeprefix("response.")
        if handle := HANDLERS.get(name):
            handle(self._output, event)
            return self._state.take()
        if _has_error(event, kind):  # upstreams quote the worker's key in it, in any field
            event = self._redact(event)
        if name in STATES:
            self._update(event)
        elif name in ENDS:
            self._end(event, name)
        elif not kind and event.get("object") == "response":  # the whole answer as one object
            self._end({"response": event}, "")
        elif kind == "error" or (not kind and event.get("error") is not None):
            self._fail(event)
        else:
            self._output.add_unknown(event)
        return self._state.take()

    def close(self) -> list[Translated]:
        """The events that were held back: half a surrogate pair."""
        self._output.close()
        return self._state.take()

    @property
    def holds_content(self) -> bool:
        """Nothing is held back: a call has its name from its beginning."""
        return False

    @property
    def is_complete(self) -> bool:
        """Whether the event that ends the answer was received. `[DONE]` alone is none."""
        return self._has_ended

    @property
    def finish(self) -> list[Finish]:
        """The end of the one choice, once it has appeared."""
        if not (self._has_ended or self._state.introduced):
            return []
        reason = self._reason or ("tool_calls" if self._output.has_calls else "stop")
        is_known = self._has_ended and not self.failure
        return [Finish(0, reason if is_known else None, role=not self._state.introduced)]

    @property
    def response(self) -> Json:
        return self._fields.current

    @property
    def usage(self) -> Json | None:
        return self._usage or None

    @property
    def upstream(self) -> Upstream:
        return Upstream(self._id or None, self._model or None)

    @property
    def extra(self) -> Extra:
        """For `done`: events of no item that no entry has carried, and a field that Chat Completions shows."""
        tier, unknown = self.response.get("service_tier"), self._state.unknown
        chunk_fields = {"service_tier": tier} if isinstance(tier, str) else {}
        return Extra(chunk_fields=chunk_fields, unknown=unknown) if chunk_fields or unknown else NO_EXTRA

    @property
    def malformed(self) -> int:
        """The number of malformed values and payloads that were skipped."""
        return self._state.reader.malformed

    def _update(self, event: Json) -> Json:
        """The Response as the upstream shows it with this event."""
        reader = self._state.reader
        response = reader.fields(event.get("response"))
        self._id = self._id or reader.string(response.get("id"))
        self._model = self._model or reader.string(response.get("model"))
        self._fields.update(reader.unknown_fields(response, known.OWN_RESPONSE_FIELDS))
        if usage := response.get("usage"):
            self._usage = known.chat_usage(usage, reader) or self._usage
            if further := known.further_usage(usage, reader):
                self._fields.update({"usage": further})
        return response

    def _end(self, event: Json, name: str) -> None:
        """The event that ends the answer, or the whole answer as one object."""
        reader, response = self._state.reader, self._update(event)
        status = reader.string(response.get("status")) or name
        if not name and status in STATES:  # a whole object that is no answer yet
            return
        self._output.end_items(reader.elements(response.get("output")))
        if status == "failed" or response.get("error"):
            self._fail(response)
        elif status == "cancelled":
            self.failure = self.failure or failure("upstream_error", "The upstream cancelled the answer.")
        elif status == "incomplete":
            self._end_incomplete(reader.verbatim(reader.fields(response.get("incomplete_details"))))
        self._has_ended = True

    def _end_incomplete(self, details: Json) -> None:
        reason = self._state.reader.string(details.get("reason"))
        self.status = "incomplete"
        self._reason = FINISH_REASONS.get(reason, reason) or "length"
        if details and (len(details) > 1 or reason not in FINISH_REASONS):
            self._fields.update({"incomplete_details": details})

    def _fail(self, event: Json) -> None:
        """An error: in an event of its own, in a failed Response, or as the payload."""
        error = error_in(event)
        if event.get("type") == "error" and isinstance(error, dict) and error.get("type") == "error":
            error = {**error, "type": None}  # the event's, and no type of an error
        self.failure = self.failure or failure_from_json(self._state.reader.error(error))


def _has_error(event: Json, kind: str) -> bool:
    """Whether an event reports that the upstream has failed."""
    if "error" in kind or kind == "response.failed":
        return True
    found = (each for each in (event, event.get("response")) if isinstance(each, dict))
    return any(each.get("error") or each.get("status") == "failed" for each in found)
