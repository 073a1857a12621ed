"""Answers with an error status, and errors in OpenAI's form."""

from typing import Any

from tailrace_demo.answers import MODELS
from tailrace_demo.script import Status, Statuses, Step

LONGEST_NAME = 200


def error(
    message: str, kind: str = "server_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def unknown_model(name: str) -> dict[str, Any]:
    message = f"The model `{name[:LONGEST_NAME]}` does not exist. The demo has {', '.join(MODELS)}."
    return error(message, "invalid_request_error", "model", "model_not_found")


def scripted_error(status: int) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
    return error(f"Scripted response with status {status}.", kind)


def status_of(steps: list[Step], earlier: int) -> Status | None:
    """The error status that the script begins with, if it applies after this number of earlier calls."""
    match steps:
        case [Status() as status, *_]:
            return Status(status.status, status.headers, status.json or scripted_error(status.status))
        case [Statuses(statuses, headers), *_] if earlier < len(statuses):
            return Status(statuses[earlier], headers, scripted_error(statuses[earlier]))
    return None
