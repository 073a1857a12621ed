"""The route table of the application, with the scope that each route declares."""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tailrace.scopes import Scopes
from tailrace_frontend.http.require import required_scopes
from tailrace_frontend.page import FILES

PUBLIC = {
    ("GET", path)
    for path in (
        *FILES,
        "/",
        "/docs",
        "/docs/oauth2-redirect",
        "/openapi.json",
        "/healthz",
        "/livez",
        "/startupz",
        "/metrics",
        "/readyz",
    )
}
"""Routes without a scope: they answer without a key, and tell nothing of any caller."""


def declared_scopes(api: FastAPI) -> dict[tuple[str, str], Scopes | None]:
    """By method and path, the scopes that the route needs one of; None: it declares none."""
    found: dict[tuple[str, str], Scopes | None] = {}
    for route in iter_route_contexts(api.routes):
        for method in route.methods or ():
            found[method, route.path or ""] = required_scopes(getattr(route, "dependencies", []))
    return found
