"""The words of the API's reference at `/docs`, which the routes' signatures do not have.

Each operation has a row: its summary, and the errors that it sends beside those of `EVERYWHERE`. Tests compare the rows
with the routes, and send the examples.
"""

from typing import Any, NamedTuple

from tailrace.errors import (
    Gone,
    InsufficientScope,
    InvalidBody,
    NotFound,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
    Unavailable,
)
from tailrace_frontend.http.openai import response_body
from tailrace_frontend.http.openai.webhook_schemas import CreateEndpoint, RotateSecret, SendSample, UpdateEndpoint

EXAMPLE_MODEL = "demo"

DESCRIPTION = """\
LLM output that survives: create a generation, follow its log from any cursor.

1. `POST /v1/generations` with a Chat Completions body answers 202 at once. The generation runs in the background.
2. `GET /v1/generations/{id}/events` is its log: from the beginning, or after the last event that a client has seen.
   Reload, disconnect, kill a process: the log goes on, and no event is lost or sent twice.
3. `GET /v1/generations/{id}?wait=30` is the whole answer.

An OpenAI SDK needs nothing but another `base_url`: `/v1` of this server. `useChat` of the AI SDK works as it is.

**Keys.** With `TAILRACE_API_KEYS`, send `Authorization: Bearer <key>` (*Authorize*). Without them the server is open to
this machine alone: a foreign `Host` is answered 421, a foreign `Origin` 403.

**Errors** have one shape, and a `code` to decide by. 429 and 503 have `Retry-After`. A request that is not HTTP as it
should be is answered 408, 413 or 431 before its route is looked for.
"""

TAGS = {
    "generations": "The native API: one generation is one log.",
    "chat completions": "OpenAI's Chat Completions. Each answer is also a generation and a Response.",
    "responses": "OpenAI's Responses. Each is also a generation and a Chat Completion.",
    "models": "The models that the caller may name. The first one is the default.",
    "webhooks": "Endpoints that receive signed messages when generations end, in the form of Standard Webhooks.",
    "AI SDK": "Chats of `useChat({ resume: true })`, by the default addresses of the AI SDK.",
    "diagnostics": "What a proxy does to a stream: `tailrace doctor` asks.",
    "operations": "Health, readiness and metrics. They need no key.",
}

ERRORS = {
    400: "The request cannot be understood; `param` names the part.",
    401: "The API key is missing or wrong.",
    403: "The API key lacks the scope, or the operator has blocked the caller.",
    404: "It does not exist, or belongs to another caller; or the caller may not use the model.",
    410: "The generation is no longer stored: `deleted`, `expired` or `lost`.",
    413: "The body is too large.",
    429: "Too many requests, generations or readers; retry after `Retry-After`.",
    503: "Redis is away, or this frontend stops; retry after `Retry-After`.",
}
ERROR_EXAMPLES = {
    400: InvalidBody("messages: Field required", param="messages").as_json(),
    401: Unauthenticated().as_json(),
    403: InsufficientScope.lacking(["read"]).as_json(),
    404: NotFound().as_json(),
    410: Gone("expired").as_json(),
    413: RequestTooLarge("The body may have at most 8 MiB.").as_json(),
    429: RateLimited().as_json(),
    503: Unavailable().as_json(),
}
EVERYWHERE = (401, 403, 429, 503)
"""Of every operation but those of `operations`."""

FAILED = "default"
"""A response of OpenAI's routes: the generation failed before the status was sent."""

FAILED_DESCRIPTION = "The generation failed before its first output. The status is the upstream's own for a 4xx."

FAILED_EXAMPLE = {
    "error": {
        "message": "The upstream refuses connections. Is the server at OPENAI_BASE_URL running?",
        "type": "server_error", "param": None, "code": "upstream_unreachable",
    },
}  # fmt: skip

USER_MESSAGE = {"role": "user", "content": "What survives?"}
CHAT = {"model": EXAMPLE_MODEL, "messages": [USER_MESSAGE]}
UI_MESSAGE = {"id": "message-1", "role": "user", "parts": [{"type": "text", "text": "What survives?"}]}
ENDPOINT = {"name": "billing", "url": "https://example.org/webhooks", "event_types": ["response.completed"]}


class Operation(NamedTuple):
    """A row of the reference. `body`: an example that the server accepts. `schema`: of the body, where the route
    has none."""

    summary: str
    errors: tuple[int | str, ...] = ()
    body: Any = None
    schema: type | dict[str, Any] | None = None


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "/v1/generations"): Operation("Create a generation", (400, 404, 410, 413), CHAT),
    ("GET", "/v1/generations"): Operation("List generations", (400,)),
    ("GET", "/v1/generations/{generation_id}"): Operation("Get a generation, or wait for its end", (400, 404, 410)),
    ("DELETE", "/v1/generations/{generation_id}"): Operation("Delete a generation", (404, 410)),
    ("POST", "/v1/generations/{generation_id}/cancel"): Operation("Cancel a generation", (404, 410)),
    ("POST", "/v1/generations/{generation_id}/shares"): Operation(
        "Share a generation by a link", (400, 404, 410, 413), {"expires_in_s": 900}
    ),
    ("GET", "/v1/generations/{generation_id}/shares"): Operation("List the links of a generation", (404, 410)),
    ("DELETE", "/v1/generations/{generation_id}/shares/{share_id}"): Operation("Revoke a link", (404, 410)),
    ("GET", "/v1/generations/{generation_id}/events"): Operation("Follow the log", (400, 404, 410)),
    ("POST", "/v1/chat/completions"): Operation("Create a Chat Completion", (400, 404, 410, 413, FAILED), CHAT),
    ("GET", "/v1/chat/completions/{completion_id}"): Operation("Get a Chat Completion again", (400, 404, FAILED)),
    ("DELETE", "/v1/chat/completions/{completion_id}"): Operation("Delete a Chat Completion", (404,)),
    ("POST", "/v1/responses"): Operation(
        "Create a Response", (400, 404, 410, 413, FAILED), {"model": EXAMPLE_MODEL, "input": "What survives?"}
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "Estimate the size of a prompt", (400, 404, 413), {"model": EXAMPLE_MODEL, "input": "What survives?"},
        response_body.CountTokens,
    ),
    ("GET", "/v1/responses/{response_id}"): Operation("Get a Response", (400, 404)),
    ("DELETE", "/v1/responses/{response_id}"): Operation("Delete a Response", (404,)),
    ("POST", "/v1/responses/{response_id}/cancel"): Operation("Cancel a background Response", (400, 404)),
    ("GET", "/v1/responses/{response_id}/input_items"): Operation("List the input of a Response", (400, 404)),
    ("GET", "/v1/models"): Operation("List models"),
    ("GET", "/v1/models/{model}"): Operation("Get a model", (404,)),
    ("POST", "/v1/webhook_endpoints"): Operation("Register an endpoint", (400, 413), ENDPOINT, CreateEndpoint),
    ("GET", "/v1/webhook_endpoints"): Operation("List endpoints", (400,)),
    ("GET", "/v1/webhook_endpoints/{id}"): Operation("Get an endpoint", (404,)),
    ("POST", "/v1/webhook_endpoints/{id}"): Operation(
        "Change an endpoint", (400, 404, 413), {"name": "accounting"}, UpdateEndpoint
    ),
    ("DELETE", "/v1/webhook_endpoints/{id}"): Operation("Delete an endpoint", (404,)),
    ("POST", "/v1/webhook_endpoints/{id}/rotate_secret"): Operation(
        "Replace an endpoint's secret", (400, 404, 413), {"keep_old_secret_active_for_24_hours": True}, RotateSecret
    ),
    ("POST", "/v1/webhook_endpoints/{id}/test"): Operation(
        "Send a sample to an endpoint", (400, 404, 413), {"event_type": "response.completed"}, SendSample
    ),
    ("GET", "/v1/webhook_event_types"): Operation("List the types of event"),
    ("POST", "/api/chat"): Operation(
        "Answer the last message of a chat", (400, 404, 410, 413),
        {"id": "chat-1", "messages": [UI_MESSAGE], "model": EXAMPLE_MODEL}, {"type": "object"},
    ),
    ("GET", "/api/chat/{chat_id}/stream"): Operation("Resume the answer that is being written"),
    ("POST", "/api/chat/{chat_id}/stop"): Operation("Cancel the answer that is being written"),
    ("GET", "/api/chat/{chat_id}/messages"): Operation("Get the messages of a chat"),
    ("GET", "/v1/diagnostics/stream"): Operation("Follow a stream of known times", (400,)),
    ("GET", "/healthz"): Operation("The process answers: /livez by its former name"),
    ("GET", "/livez"): Operation("The process answers"),
    ("GET", "/startupz"): Operation("The process has started", (503,)),
    ("GET", "/readyz"): Operation("The frontend can serve", (503,)),
    ("GET", "/metrics"): Operation("Metrics for Prometheus"),
}  # fmt: skip

PARAMETERS = {
    "Idempotency-Key": "The same key and body again: the same generation.",
    "Last-Event-ID": "The cursor: the id of the last event that was received. The log goes on after it.",
    "after": "The last id of the page before: the list goes on behind it.",
    "chat_id": "The chat's id, as its page has chosen it.",
    "completion_id": "`chatcmpl-…`, as the answer has it.",
    "events": "How many beats are sent.",
    "generation_id": "`gen_…`, as the answer to its creation has it.",
    "id": "The endpoint's id.",
    "include_obfuscation": "Whether deltas are padded to a multiple of 16 bytes.",
    "interval_ms": "Milliseconds between two beats.",
    "last_event_id": "The same as `Last-Event-ID`, for clients that cannot send headers.",
    "limit": "The most entries of the page.",
    "model": "The model's name, which may contain slashes.",
    "order": "By time: `desc` is newest first.",
    "output": "`false`: without the request and the output, and with the progress: attempt, worker, readers, expiry.",
    "response_id": "`resp_…`, as the answer has it.",
    "share_id": "`shr_…`, as the answer to its creation has it.",
    "silence_s": "Seconds of silence behind the last beat.",
    "starting_after": "With `stream`: what follows this `sequence_number`.",
    "stream": "Whether the answer is a stream of events, live, instead of an object.",
    "ticket": "From `events_url`, in place of a key; better as `Authorization: Ticket …`, which no proxy logs.",
    "view": "`json`: the answer as a JSON value, as far as it is written; for requests with `response_format`.",
    "wait": "Seconds to wait for the end.",
    "x-tailrace-on-disconnect": "Whether the generation goes on without its client; by default it is cancelled.",
}

EVENT_KINDS = {
    "created": "The generation exists.",
    "started": "A worker runs it; nothing is written yet.",
    "item_opened": "An item begins: text, reasoning, a refusal or a tool call.",
    "text": "A piece of text.",
    "reasoning": "A piece of reasoning.",
    "refusal": "A piece of a refusal.",
    "tool_arguments": "A piece of a call's arguments.",
    "item_closed": "An item is complete.",
    "restarted": "A later attempt begins again: discard every item so far.",
    "done": "The end, always last: status, finish reasons, usage and error.",
}

EVENTS_EXAMPLE = """\
retry: 1000
id: 1795334400000-0
event: created
data: {"id":"gen_yzm3v7lq2n5xk4jt6hbr7wdcae","at":1795334400.0,"queued":false,"version":1}

id: 1795334400007-1
event: started
data: {"attempt":1,"at":1795334400.007}

id: 1795334400007-3
event: item_opened
data: {"item":0,"type":"text","choices":[0]}

id: 1795334400007-4
event: text
data: {"text":"The log"}

id: 1795334400007-8
event: done
data: {"status":"completed","at":1795334401.2,"finish":[{"index":0,"finish_reason":"stop"}],"open":[0]}

"""
"""As `tailrace.wire.native` writes it."""
