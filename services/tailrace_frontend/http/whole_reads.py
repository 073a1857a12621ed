"""Responses that have the whole of a generation, megabytes where it is large."""

from collections.abc import Awaitable, Callable

from fastapi import Request

from tailrace.errors import InvalidRequest
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http.bodies import client_of
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.services import Services


async def answer_whole(
    services: Services, request: Request, caller: ApiKey, read: Callable[[], Awaitable[JSONBytesResponse]]
) -> JSONBytesResponse:
    """The body that `read` makes, one at a time for each caller, and charged by its bytes. The request may be repeated.

    Raises:
        RateLimited: the caller has read too much.
        InvalidRequest: the client has left.
    """
    async with services.rate_limits.reading(caller.owner):
        client = client_of(request)
        if client is not None and client.lost:
            raise InvalidRequest("The connection closed before the response.")
        response = await read()
        services.rate_limits.charge_answer(caller.owner, len(response.body))
    response.is_repeatable = True
    return response
