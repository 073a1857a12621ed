"""`tailrace health`: ask a process of this machine whether it lives, or is ready. (Containers have no curl.)"""

import json
import sys
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from tailrace.errors import Misconfigured
from tailrace.redis.outage import reason_of
from tailrace.settings import Settings
from tailrace_cli import local_http

TIMEOUT_S = 5.0
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a process is reached that listens on every address."""


def main(settings: Settings, *, role: str, is_readiness: bool) -> int:
    """Print `ok`, or the reason why not. Returns the exit status: 0 or 1.

    Raises:
        Misconfigured: the settings name no address of such a process.
    """
    url = f"{_place(settings, role)}/{'readyz' if is_readiness else 'livez'}"
    try:
        local_http.get(url, timeout_s=TIMEOUT_S)
    except HTTPError as error:
        print(f"tailrace health: {_reason(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tailrace health: {url} does not answer: {reason_of(error)}", file=sys.stderr)
        return 1
    print("ok")
    return 0


def _place(settings: Settings, role: str) -> str:
    """The beginning of a process' URL."""
    if role == "worker":
        if not settings.worker_operations_address:
            raise Misconfigured("TAILRACE_WORKER_OPERATIONS_ADDRESS is empty, so a worker has no probes")
        host, port = settings.worker_operations_host_and_port
    elif settings.operations_address:
        host, port = settings.operations_host_and_port
    else:
        host, port = settings.host, settings.port
    host = ANY.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _reason(error: HTTPError) -> str:
    try:
        answer: dict[str, Any] = json.loads(error.read(local_http.MAX_BYTES))
        return str(answer["error"]["message"])
    except (OSError, ValueError, TypeError, KeyError):
        return f"status {error.code} {HTTPStatus(error.code).phrase}"
