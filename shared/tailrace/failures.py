"""Why a generation did not complete: every error code that Tailrace itself sends, in one table.

A `Failure` (`events`) is data: message, code, type, param. This module decides which codes exist and what goes with
each of them. `failure(code)` makes one; mypy refuses a code that is not in `FailureCode`, and a test compares the
tables with the codes in the sources. Another test compares `docs/errors.md` with the tables.

Three kinds of error carry the upstream's own message. Where the upstream rejects a request, its message, code and type
are sent on (`upstream_refused` where the upstream names no code). Where it answers 408, 429 or 5xx, a code of the table
has its message. Where a 200 ends with an error object, the upstream's code is sent on as well, unless it is a status or
about the worker's account. A client therefore treats a code that it does not know as `upstream_error`. The worker's
`upstream/conditions.py` has which error of an upstream leads to which code.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from tailrace.events import Failure, FinalStatus

FailureCode = Literal[
    "attempts_exhausted",
    "deadline_exceeded",
    "worker_lost",
    "client_disconnected",
    "internal_error",
    "out_of_memory",
    "append_refused",
    "log_limit",
    "upstream_truncated",
    "upstream_auth",
    "upstream_rate_limited",
    "insufficient_quota",
    "upstream_refused",
    "upstream_error",
    "upstream_timeout",
    "upstream_empty",
    "upstream_unreachable",
    "upstream_unreadable",
    "upstream_busy",
    "upstream_no_model",
]
"""Values of `done.error.code`."""

FormatErrorCode = Literal["server_error", "cancelled", "restarted"]
"""Codes that only a wire format sends, for a state that the log expresses without a `Failure`."""

RestartReason = Literal["worker_lost", "upstream_lost", "upstream_silent"]
"""Values of `restarted.reason` in a log."""


class FailureKind(NamedTuple):
    """A row of the table.

    `status`: the final status of the generation; None where the generation continues. `message`: for a person, unless
    the caller of `failure` passes a more specific one. `meaning`: for the author of a client. `retry`: whether the same
    request may succeed later. `http_status`: of the answer to a request that waits for the generation.
    """

    status: FinalStatus | None
    type: str
    message: str
    meaning: str
    retry: bool
    http_status: int


FAILURES: Mapping[FailureCode, FailureKind] = {
    "attempts_exhausted": FailureKind(
        "failed",
        "server_error",
        "Too many attempts failed.",
        "As many attempts failed as `TAILRACE_MAX_ATTEMPTS` allows: their workers died, or the upstream interrupted "
        "them. The request itself may be the cause.",
        retry=False,
        http_status=500,
    ),
    "deadline_exceeded": FailureKind(
        "failed",
        "server_error",
        "The deadline has passed.",
        "The generation did not end within `deadline_s` of its creation, waiting in the queue included.",
        retry=True,
        http_status=504,
    ),
    "worker_lost": FailureKind(
        "failed",
        "server_error",
        "The worker was lost.",
        "The worker died in the middle of the answer, and the request has `on_interrupt: fail`.",
        retry=True,
        http_status=500,
    ),
    "client_disconnected": FailureKind(
        "cancelled",
        "server_error",
        "No client reads this generation.",
        "No client has read the generation for 20 s (the default grace), and the request has `on_disconnect: cancel`.",
        retry=True,
        http_status=400,
    ),
    "internal_error": FailureKind(
        "failed",
        "server_error",
        "The worker failed.",
        "An error in Tailrace. The worker's log has the traceback, under the generation's id.",
        retry=False,
        http_status=500,
    ),
    "out_of_memory": FailureKind(
        "failed",
        "server_error",
        "Redis is full: the rest of the answer could not be stored.",
        "Redis reached its `maxmemory` in the middle of the answer.",
        retry=True,
        http_status=503,
    ),
    "append_refused": FailureKind(
        "failed",
        "server_error",
        "Redis refused to store the answer.",
        "Redis answered a write with an error other than being full or away.",
        retry=False,
        http_status=500,
    ),
    "log_limit": FailureKind(
        "incomplete",
        "server_error",
        "The answer exceeds the size limit of a log.",
        "The output of one attempt reached `TAILRACE_MAX_LOG_BYTES` and was cut there.",
        retry=False,
        http_status=500,
    ),
    "upstream_truncated": FailureKind(
        "incomplete",
        "server_error",
        "The upstream's answer ended early.",
        "The upstream closed its stream without a finish reason, and without `[DONE]` after a whole answer.",
        retry=True,
        http_status=502,
    ),
    "upstream_auth": FailureKind(
        "failed",
        "server_error",
        "The upstream rejected the worker's credentials.",
        "The upstream answered 401 or 403: the worker's `OPENAI_API_KEY` is wrong or may not use this model.",
        retry=False,
        http_status=502,
    ),
    "upstream_rate_limited": FailureKind(
        "failed",
        "rate_limit_exceeded",
        "The upstream's rate limit was reached.",
        "The upstream answered 429, and still did after `TAILRACE_UPSTREAM_RETRIES` retries. A foreground request of "
        "OpenAI's API is not retried: its client does so.",
        retry=True,
        http_status=429,
    ),
    "insufficient_quota": FailureKind(
        "failed",
        "insufficient_quota",
        "The upstream's account has no quota left.",
        "The upstream answered 402, or 429 with this code or a like one: the account of the worker's key has no credit "
        "or quota left. The request is not repeated.",
        retry=False,
        http_status=429,
    ),
    "upstream_refused": FailureKind(
        "failed",
        "invalid_request_error",
        "The upstream rejected the request.",
        "The upstream answered another 4xx and named no code of its own; if it names one, that code is sent.",
        retry=False,
        http_status=400,
    ),
    "upstream_error": FailureKind(
        "failed",
        "server_error",
        "The upstream failed.",
        "The upstream answered 5xx after every retry, or sent an error without a code in its stream.",
        retry=True,
        http_status=502,
    ),
    "upstream_timeout": FailureKind(
        "failed",
        "server_error",
        "The upstream did not answer in time.",
        "The upstream sent no content for `TAILRACE_UPSTREAM_FIRST_TOKEN_TIMEOUT_S` at first, or for "
        "`TAILRACE_UPSTREAM_IDLE_TIMEOUT_S` later, or accepted no connection for "
        "`TAILRACE_UPSTREAM_CONNECT_TIMEOUT_S`, or answered 408.",
        retry=True,
        http_status=504,
    ),
    "upstream_empty": FailureKind(
        "failed",
        "server_error",
        "The upstream's stream ended without an answer.",
        "The upstream answered 200 and closed its stream before any content, on every retry.",
        retry=True,
        http_status=502,
    ),
    "upstream_unreachable": FailureKind(
        "failed",
        "server_error",
        "The connection to the upstream was lost.",
        "The upstream could not be reached, or its connection broke; before any content this was retried.",
        retry=True,
        http_status=503,
    ),
    "upstream_unreadable": FailureKind(
        "failed",
        "server_error",
        "The upstream's answer could not be parsed.",
        "The upstream redirected the request, or sent something that is neither a stream of JSON objects nor an answer "
        "in JSON.",
        retry=False,
        http_status=502,
    ),
    "upstream_busy": FailureKind(
        "failed",
        "server_error",
        "No upstream that serves the model could be called.",
        "For `TAILRACE_UPSTREAM_WAIT_S` every upstream that serves the model had `max_concurrency` calls, or an open "
        "circuit after failures. The worker's log has which of the two.",
        retry=True,
        http_status=503,
    ),
    "upstream_no_model": FailureKind(
        "failed",
        "invalid_request_error",
        "No upstream serves the model.",
        "No upstream of the worker's `tailrace.toml` serves the model. A frontend with the same file refuses such a "
        "request.",
        retry=False,
        http_status=404,
    ),
}

FORMAT_ERRORS: Mapping[FormatErrorCode, FailureKind] = {
    "server_error": FailureKind(
        "failed",
        "server_error",
        "The generation failed.",
        "OpenAI formats: `done` has the status `failed` and no `error`.",
        retry=True,
        http_status=500,
    ),
    "cancelled": FailureKind(
        "cancelled",
        "server_error",
        "The generation was cancelled.",
        "Chat Completions: `done` has the status `cancelled`.",
        retry=False,
        http_status=400,
    ),
    "restarted": FailureKind(
        None,
        "server_error",
        "The answer was interrupted and has restarted: read it again from its beginning.",
        "Chat Completions, UI messages: the log has a `restarted`. The generation continues; the stream has to be read "
        "again.",
        retry=False,
        http_status=500,
    ),
}

RESTART_REASONS: Mapping[RestartReason, str] = {
    "worker_lost": "The worker's lease expired, or the worker handed the generation over while it stopped.",
    "upstream_lost": "The upstream's connection broke, or its answer ended early or could not be parsed.",
    "upstream_silent": "The upstream sent no content for `TAILRACE_UPSTREAM_IDLE_TIMEOUT_S`.",
}

LAST_CAUSES: Mapping[RestartReason, str] = {
    "worker_lost": "its worker was lost",
    "upstream_lost": "the upstream broke off the answer",
    "upstream_silent": "the upstream sent no more content",
}
"""How an attempt ended, within the message of `attempts_exhausted`."""

_KINDS: Mapping[str, FailureKind] = dict([*FAILURES.items(), *FORMAT_ERRORS.items()])


def failure(code: FailureCode | FormatErrorCode, message: str | None = None) -> Failure:
    """The `Failure` of that code, with the message and type of its row. A `message` replaces the row's."""
    kind = _KINDS[code]
    return Failure(message or kind.message, code, kind.type)


def failure_of(status: FinalStatus, error: Failure | None) -> Failure | None:
    """Why an answer that ended so is not whole, for formats that know no status; None where it is whole."""
    if error is not None:
        return error
    match status:
        case "cancelled":
            return failure("cancelled")
        case "failed":
            return failure("server_error")
    return None


def kind_of(error: Failure) -> FailureKind | None:
    """The row of a failure's code; None for a code of the upstream's."""
    return _KINDS.get(error.code)
