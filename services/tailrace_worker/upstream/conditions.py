"""The errors of an upstream in one table: whether the request is sent again, and the code of the failure.

`errors` finds the row of an exception and makes its failure; the row of the code in `failures` has the failure's type,
the status of the generation and the HTTP status. `asking` retries by this table, and `docs/upstreams.md` is rendered
from it (`scripts/upstreams`).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from tailrace.failures import FailureCode, RestartReason

ConnectionCondition = Literal["refused", "unresolved", "connecting", "certificate", "address", "no_http"]
"""Rows for a request without a response."""

ConditionName = Literal[
    ConnectionCondition,
    "not_sent", "redirect", "rejected", "key", "quota", "absent", "timed_out", "conflict", "rate_limited", "failed",
    "error_in_stream", "empty", "unreadable", "silent", "cut", "defect",
]  # fmt: skip

Retried = Literal["yes", "no", "background"]
"""Whether a request that failed before any content is sent again. `background`: not for a client of OpenAI's routes
that waits for the answer (`GenerationRecord.foreground`): its SDK repeats the request itself, within a second."""


class Condition(NamedTuple):
    """A row. `upstream`: what happens there. `own_code`: whether the upstream's own code and type are sent where it
    names them. `is_fault_of_request`: no other upstream would answer it, so none is asked."""

    upstream: str
    code: FailureCode
    retried: Retried
    own_code: bool = False
    is_fault_of_request: bool = False


CONDITIONS: Mapping[ConditionName, Condition] = {
    # no response
    "refused": Condition("the connection is refused, or ends before an answer", "upstream_unreachable", "yes"),
    "unresolved": Condition(
        "the host's name cannot be resolved, or there is no route to it", "upstream_unreachable", "yes"
    ),
    "connecting": Condition(
        "no connection within `TAILRACE_UPSTREAM_CONNECT_TIMEOUT_S`", "upstream_timeout", "yes"
    ),
    "certificate": Condition(
        "the upstream's certificate is not accepted, or it does not use TLS", "upstream_unreachable", "no"
    ),
    "address": Condition(
        "the upstream's address does not begin with http:// or https://", "upstream_unreachable", "no"
    ),
    "not_sent": Condition(
        "the worker's key, or the upstream's address, has characters that HTTP does not permit: nothing is sent",
        "upstream_unreachable", "no",
    ),
    "no_http": Condition("the answer is not HTTP", "upstream_unreadable", "no"),
    # an error status
    "redirect": Condition("status 3xx, a redirect: it is not followed", "upstream_unreadable", "no"),
    "rejected": Condition(
        "status 400, 413, 415, 422, and each 4xx that has no row here", "upstream_refused", "no",
        own_code=True, is_fault_of_request=True,
    ),
    "key": Condition("status 401 or 403", "upstream_auth", "no"),
    "quota": Condition("status 402, or 429 with a code such as `insufficient_quota`", "insufficient_quota", "no"),
    "absent": Condition("status 404 or 405", "upstream_refused", "no", own_code=True),
    "timed_out": Condition("status 408 or 425", "upstream_timeout", "yes"),
    "conflict": Condition("status 409", "upstream_refused", "yes", own_code=True),
    "rate_limited": Condition("status 429", "upstream_rate_limited", "background"),
    "failed": Condition("status 5xx (also 529)", "upstream_error", "yes"),
    # 200
    "error_in_stream": Condition(
        "status 200 with an error object whose code and type are not known", "upstream_error", "no", own_code=True
    ),
    "empty": Condition(
        "status 200 without a body, or a stream that ends without content and without a finish reason",
        "upstream_empty", "yes",
    ),
    "unreadable": Condition(
        "status 200 with something else than an answer: HTML, text, other JSON, a stream without JSON, bytes that do "
        "not fit its `Content-Encoding`, several codings in it, an event of more than 8 MiB",
        "upstream_unreadable", "no",
    ),
    "silent": Condition(
        "no content within `TAILRACE_UPSTREAM_FIRST_TOKEN_TIMEOUT_S` (nothing, comments, or a byte at a time)",
        "upstream_timeout", "no",
    ),
    "cut": Condition("status 200, and the connection breaks before the first content", "upstream_unreachable", "yes"),
    # ours
    "defect": Condition("none: an error of Tailrace", "internal_error", "no"),
}  # fmt: skip
"""Beside the table: `x-should-retry: false` of an upstream forbids each retry, `true` asks for one."""

STATUSES: Mapping[int, ConditionName] = {
    401: "key", 402: "quota", 403: "key", 404: "absent", 405: "absent", 408: "timed_out", 409: "conflict",
    425: "timed_out", 429: "rate_limited",
}  # fmt: skip

WORDS: Mapping[ConditionName, frozenset[str]] = {
    "key": frozenset({
        "invalidapikey", "incorrectapikey", "authenticationerror", "permissionerror", "permissiondenied",
        "unauthorized", "unauthenticated", "forbidden", "upstreamauth",
    }),
    "quota": frozenset({
        "insufficientquota", "billinghardlimitreached", "billingnotactive", "exceededcurrentquotaerror",
        "insufficientbalance", "insufficientcredits", "arrearage",
    }),
    "rate_limited": frozenset({
        "ratelimitexceeded", "ratelimiterror", "ratelimitreachederror", "toomanyrequests", "resourceexhausted",
        "throttling", "requests", "tokens", "upstreamratelimited",
    }),
    "failed": frozenset({
        "servererror", "internalerror", "internalservererror", "apierror", "overloaded", "overloadederror",
        "engineoverloadederror", "serviceunavailable", "serviceunavailableerror", "unavailable", "badgateway",
        "insufficientsystemresource", "networkerror", "timeout", "timeouterror", "upstreamerror",
    }),
    "rejected": frozenset({"invalidrequesterror", "badrequesterror", "contentfilter"}),
}  # fmt: skip
"""Codes and types of error objects in a 200, by their letters (`folded`): of OpenAI, Azure, Anthropic, Google, Groq,
DeepSeek, Moonshot, Alibaba, vLLM and Tailrace. The code counts before the type."""


class Interruption(NamedTuple):
    """A row for what an upstream does after the first content. Nothing is retried then: a second answer would differ
    from the first. `restart`: the reason of another attempt, where the request has `on_interrupt: restart`; None: there
    is none. `status` and `code`: of the end where there is no other attempt; the text so far is kept."""

    upstream: str
    restart: RestartReason | None
    status: Literal["failed", "incomplete"]
    code: FailureCode
    own_code: bool = False


InterruptionName = Literal["silent", "cut", "unreadable", "truncated", "error"]

INTERRUPTIONS: Mapping[InterruptionName, Interruption] = {
    "silent": Interruption(
        "no content for `TAILRACE_UPSTREAM_IDLE_TIMEOUT_S` (nothing, comments, or a byte at a time)",
        "upstream_silent", "failed", "upstream_timeout",
    ),
    "cut": Interruption("the connection breaks", "upstream_lost", "failed", "upstream_unreachable"),
    "unreadable": Interruption(
        "bytes that do not fit its `Content-Encoding`, or an event of more than 8 MiB",
        "upstream_lost", "failed", "upstream_unreadable",
    ),
    "truncated": Interruption(
        "the stream ends without a finish reason, or with `[DONE]` while the answer is not whole: in a call, after "
        "reasoning alone, or where another choice has a finish reason",
        "upstream_lost", "incomplete", "upstream_truncated",
    ),
    "error": Interruption(
        "an error object, or a finish reason that is an error (`error`, `abort`, `network_error`, "
        "`insufficient_system_resource`)",
        None, "failed", "upstream_error", own_code=True,
    ),
}  # fmt: skip
