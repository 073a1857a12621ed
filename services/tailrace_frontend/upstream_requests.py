"""Requests in the API of the upstream that will serve them: for the refusals, before a generation is created."""

from tailrace.errors import InvalidRequest
from tailrace.events import Api, Json
from tailrace.translation import DialectName, upstream_request
from tailrace.upstreams import CurrentUpstreams


def request_for(upstreams: CurrentUpstreams, api: Api, request: Json) -> Json:
    """The body for the first upstream that serves the request's model and has a place for all of it.

    Raises:
        UnsupportedParameter, InvalidValue, MissingParameter: as `translation.upstream_request`; of the first upstream,
        where none has.
    """
    refusal: InvalidRequest | None = None
    for dialect in dialects_of(upstreams, request):
        try:
            return upstream_request(dialect, api, request)
        except InvalidRequest as error:
            refusal = refusal or error
    assert refusal is not None, "there is always a dialect"
    raise refusal


def dialects_of(upstreams: CurrentUpstreams, request: Json) -> list[DialectName]:
    """The APIs of the upstreams that serve the request's model, in the order in which they are asked. A model that none
    serves is refused elsewhere."""
    targets = upstreams.targets(str(request.get("model")))
    return list(dict.fromkeys(target.upstream.dialect for target in targets)) or ["chat"]
