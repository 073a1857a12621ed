"""Why a connection to the upstream failed: the transport's errors, classified by their causes.

The SDK reports every failure to connect as a timeout, because its aiohttp transport does. The exception at the end of
the chain of causes has whether the connection was refused, the name unknown, or the certificate not accepted. Clients
receive a message that names the setting, not the address: that is for the log alone.
"""

import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import aiohttp
import httpx2
import openai

from tailrace_worker.upstream.conditions import ConnectionCondition

MAX_CAUSES = 20


class Reason(NamedTuple):
    """Why there was no response. `message`: for clients; None: the message of the failure's code."""

    name: ConnectionCondition
    message: str | None = None


UNREACHABLE: tuple[tuple[tuple[type[BaseException], ...], ConnectionCondition, str], ...] = (
    (
        (httpx2.UnsupportedProtocol, httpx2.InvalidURL, aiohttp.InvalidURL),
        "address",
        "OPENAI_BASE_URL is not the address of an upstream: it begins with http:// or https://.",
    ),
    (
        (ssl.SSLCertVerificationError,),
        "certificate",
        "The upstream's certificate is not accepted. Is the host in OPENAI_BASE_URL right?",
    ),
    (
        (ssl.SSLError,),
        "certificate",
        "The upstream does not speak TLS. Should OPENAI_BASE_URL begin with http:// and not https://?",
    ),
    (
        (socket.gaierror,),
        "unresolved",
        "The name of the upstream's host cannot be resolved. Is OPENAI_BASE_URL right?",
    ),
    (
        (ConnectionRefusedError,),
        "refused",
        "The upstream refuses connections. Is the server at OPENAI_BASE_URL running?",
    ),
    (
        (ConnectionResetError, aiohttp.ServerDisconnectedError),
        "refused",
        "The upstream closed the connection without an answer (OPENAI_BASE_URL).",
    ),
    (
        (aiohttp.ConnectionTimeoutError, TimeoutError),
        "connecting",
        "The upstream did not accept a connection in time (TAILRACE_UPSTREAM_CONNECT_TIMEOUT_S).",
    ),
    ((OSError,), "unresolved", "The upstream's host cannot be reached. Is OPENAI_BASE_URL right?"),
)
"""Causes, the more special ones first, and what they mean. (A refused connection is an OSError, too.)"""


def connection_condition(error: openai.APIConnectionError) -> Reason:
    """Why a request received no response."""
    found = tuple(causes(error))
    for kinds, name, message in UNREACHABLE:
        if any(isinstance(cause, kinds) for cause in found):
            return Reason(name, message)
    return Reason("connecting" if isinstance(error, openai.APITimeoutError) else "refused")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors that this one was raised from, from the outermost to the first."""
    cause = error.__cause__ or error.__context__
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
