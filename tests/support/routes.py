"""The route table of the application, with the scope that each route declares."""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from tailrace.scopes import Scopes
from tailrace_frontend.http.require import required_scopes
from tailrace_frontend.page import FILES
from tailrace_frontend.page.dashboard_files import FILES as DASHBOARD_FILES
from tailrace_frontend.page.dashboard_files import PAGES as DASHBOARD_PAGES

OPERATIONS = (
    "/docs", "/docs/oauth2-redirect", "/openapi.json", "/healthz", "/livez", "/startupz", "/metrics", "/readyz",
)  # fmt: skip
PAGES = (*FILES, "/", *DASHBOARD_FILES, *DASHBOARD_PAGES)
SESSION = {(method, "/v1/admin/session") for method in ("GET", "POST")}
PUBLIC = {("GET", path) for path in (*PAGES, *OPERATIONS)} | SESSION
"""Routes without a scope: they answer without a key, and reveal nothing of any caller."""


def declared_scopes(api: FastAPI) -> dict[tuple[str, str], Scopes | None]:
    """By method and path, the scopes that the route needs one of; None: it declares none."""
    found: dict[tuple[str, str], Scopes | None] = {}
    for route in iter_route_contexts(api.routes):
        for method in route.methods or ():
            found[method, route.path or ""] = required_scopes(getattr(route, "dependencies", []))
    return found
