"""The access log: a line for each request to the API, when its response begins.

    POST /v1/generations 202

It has no query string, because a query may hold a ticket, and no address, because a frontend is behind a proxy.
"""

import logging
from http import HTTPStatus

API = ("/v1/", "/api/")
"""Requests to other paths (the page, metrics) are for `-v`, as are preflights and polls."""

POLL = "output=false"
"""In the query of `GET /v1/generations/{id}`: the page sends it once a second while an answer is written."""

PROBES = frozenset({"/healthz", "/livez", "/readyz", "/startupz"})
"""Requests to these, every few seconds from each node of a cluster, are in no log."""

logger = logging.getLogger(__name__)


class AccessLog:
    """The access log that uvicorn's protocol calls in the place of a logger."""

    @property
    def is_on(self) -> bool:
        """Whether the level of the log lets any line pass."""
        return logger.isEnabledFor(logging.INFO)

    def info(self, _format: str, _client: str, method: str, target: str, _version: str, status: int) -> None:
        """A response begins. `target` is percent-encoded, so that no byte of a client's ends the line."""
        path, _, query = target.partition("?")
        if path in PROBES:
            return
        is_poll = method == "GET" and POLL in query.split("&") and status < HTTPStatus.BAD_REQUEST
        is_call = path.startswith(API) and method != "OPTIONS" and not is_poll
        logger.log(logging.INFO if is_call else logging.DEBUG, "%s %s %d", method, path, status)


ACCESS_LOG = AccessLog()
