"""The scope that a route needs, declared where the route is.

    @router.get("", dependencies=[require(Scope.READ)])

Every route declares one (`tests/contract/http/test_scopes.py` reads the application's route table). The check comes
first: before the query is validated, before the body is read.

A ticket allows one thing, the event stream of its generation, which is none of these routes. On another route of that
generation it is valid, and refused as a key is that lacks a scope: 403. Elsewhere it is no credential: 401.
"""

from typing import Any

from fastapi import Depends, Request

from tailrace.errors import InsufficientScope
from tailrace.scopes import CALLER_SCOPES, EVERY_SCOPE, Scope, Scopes
from tailrace_frontend.api_keys import ApiKey
from tailrace_frontend.http.stream_endpoint import ticket_of
from tailrace_frontend.services import Services

CALLER = "tailrace.caller"
"""In the scope of a request whose caller is known, and maybe refused: its `ApiKey`."""


ADMIN_SCOPES = EVERY_SCOPE - CALLER_SCOPES


ADMINS: Scopes = frozenset({Scope.ADMIN})


class Required:
    """The dependency of a route: the caller of the request, if its key has one of the scopes."""

    def __init__(self, *scopes: Scope) -> None:
        self.scopes = frozenset(scopes)

    async def __call__(self, request: Request) -> ApiKey:
        """
        Raises:
            TailraceError: as `Services.authorize`.
        """
        services: Services = request.app.state.services
        if self.scopes.isdisjoint(CALLER_SCOPES):
            services.sessions.check_origin(request.method, request.headers)
            caller = services.sessions.caller_of(request.headers)
        else:
            caller = None
            await _refuse_ticket(services, request)
        caller = request.scope[CALLER] = caller or await services.authenticate(request.headers)
        await services.check_scopes(caller, self.scopes)
        if self.scopes <= ADMIN_SCOPES:  # other routes count their requests with what they ask for
            await services.rate_limits.charge_request(caller.owner)
        return caller


async def _refuse_ticket(services: Services, request: Request) -> None:
    """
    Raises:
        InsufficientScope: the request has a valid ticket of the generation that its path names.
        Unauthenticated, CallerBlocked, Unavailable: it has another ticket (as `Services.redeem`).
    """
    ticket = ticket_of(request.headers, request.query_params.get("ticket"))
    generation_id = request.path_params.get("generation_id")
    if ticket is not None and generation_id and not services.callers.are_open:
        await services.redeem(ticket, generation_id)
        raise InsufficientScope("A ticket allows reading the events of its generation, and nothing else.")


def require(*scopes: Scope) -> Any:
    """The dependency of a route that needs one of these scopes."""
    return Depends(Required(*scopes))


def required_scopes(dependencies: list[Any]) -> frozenset[Scope] | None:
    """The scopes that a route with these dependencies needs one of; None: it declares none."""
    declared = [each.dependency.scopes for each in dependencies if isinstance(each.dependency, Required)]
    return frozenset.union(*declared) if declared else None


async def check_act_on(request: Request, name: str) -> None:
    """Acts on a caller that has a key with `admin` need that scope: an operator could lock out the admin otherwise.

    Raises:
        InsufficientScope, RateLimited: as `Services.check_scopes`.
    """
    services: Services = request.app.state.services
    if services.callers.has_admin(name):
        await services.check_scopes(caller_of(request), ADMINS)


def caller_of(request: Request) -> ApiKey:
    """The key of a request that `require` has let through."""
    caller: ApiKey = request.scope[CALLER]
    return caller
