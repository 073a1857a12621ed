"""The scripted upstream, with a script for each case: the model's name selects it.

Its record of calls shows what no client sees: whether the upstream's connection was closed, and what it was asked.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from clients.cases import CASES, Json, case_of
from tailrace_demo.app import SCRIPTED, create_app
from tailrace_demo.calls import Calls

PATH = "/v1/chat/completions"

Scripts = Mapping[str, list[Json]]


class CaseUpstream:
    """The demo server as an ASGI application, in front of which the model's name becomes a script.

    `scripts`: by the part of a name before the first dot; the cases are the default.
    """

    def __init__(self, scripts: Scripts | None = None) -> None:
        self._app = create_app()
        self._scripts = scripts or {name: case.script for name, case in CASES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == PATH:
            receive = await _with_script(receive, self._scripts)
        await self._app(scope, receive, send)

    @property
    def calls(self) -> Mapping[str, Calls]:
        """The record of each model's calls."""
        ledger: Mapping[str, Calls] = self._app.state.ledger
        return ledger


async def _with_script(receive: Receive, scripts: Scripts) -> Receive:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    first: list[Message] = [{"type": "http.request", "body": scripted(bytes(body), scripts), "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def scripted(body: bytes, scripts: Scripts) -> bytes:
    """The body with the script that its model names; any other body as it is."""
    value: Any = json.loads(body)
    model = value.get("model") if isinstance(value, dict) else None
    script = scripts.get(model.partition(".")[0]) if isinstance(model, str) else None
    if script is None:
        return body
    return json.dumps(value | {"model": SCRIPTED, "script": script, "script_id": model}).encode()


def problems(calls: Mapping[str, Calls]) -> dict[str, str]:
    """What the upstream's record shows to be wrong, by model."""
    found = {}
    for model, record in calls.items():
        case = case_of(model)
        if problem := case and _problem(case, record):
            found[model] = problem
    return found


def _problem(case: str, record: Calls) -> str:
    if record.started != 1:
        return f"the upstream was called {record.started} times"
    if case == "cancel" and record.closed_by_client != record.started:
        return "the upstream's connection was not closed"
    if case != "cancel" and record.finished != record.started:
        return "the upstream did not finish"
    if case == "structured" and not _has_schema(record.last_request or {}):
        return "the upstream received no JSON schema"
    if case == "tools" and not (record.last_request or {}).get("tools"):
        return "the upstream received no tools"
    return ""


def _has_schema(request: Json) -> bool:
    form = request.get("response_format")
    return isinstance(form, dict) and form.get("type") == "json_schema"
