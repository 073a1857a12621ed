"""GET requests to programs of this machine, past any proxy of the environment."""

import http.client
import json
import urllib.request
from typing import Any

MAX_BYTES = 1024 * 1024

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, *, timeout_s: float) -> bytes:
    """The body of a successful answer, at most MAX_BYTES of it. Blocks.

    Raises:
        OSError: there is no answer in time, no HTTP, or an error status.
    """
    try:
        with _opener.open(url, timeout=timeout_s) as response:
            body: bytes = response.read(MAX_BYTES)
            return body
    except http.client.HTTPException as error:
        raise OSError(f"{url} does not answer as HTTP does: {type(error).__name__}") from error


def get_json(url: str, *, timeout_s: float) -> Any:
    """The same as JSON; None if there is no such answer."""
    try:
        return json.loads(get(url, timeout_s=timeout_s))
    except (OSError, ValueError):
        return None
