"""The dashboard at `/dashboard`: static HTML, CSS and ES modules, served unmodified.

The HTML names its files under `/dashboard/<hash>/`, where the hash is of all of them. So a browser keeps them for a
year, and a new version has new addresses. The page has no data: it asks `/v1/admin`, which needs a session.
"""

import hashlib
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response

FOLDER = Path(__file__).parent / "dashboard"
SHARED = ("tailrace.js",)
"""Files of the chat page that the dashboard uses as well."""

MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
VIEWS = ("generations", "workers", "upstreams", "callers", "health")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self'; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
IMMUTABLE = "public, max-age=31536000, immutable"
ASSETS = "ASSETS"
"""Stands for the files' folder in the HTML."""


def _files() -> dict[str, Path]:
    """The files by their names under the hash."""
    own = {str(file.relative_to(FOLDER)): file for file in sorted(FOLDER.rglob("*")) if file.suffix in MEDIA_TYPES}
    return own | {name: FOLDER.parent / name for name in SHARED}


def _hash(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        content = file.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


_BY_NAME = _files()
PREFIX = f"/dashboard/{_hash(_BY_NAME)}"
FILES = {f"{PREFIX}/{name}": file for name, file in _BY_NAME.items()}
VIEW_PAGES = tuple(f"/dashboard/{view}" for view in VIEWS)
PAGES = ("/dashboard", "/dashboard/", *VIEW_PAGES, "/dashboard/generations/{generation_id}")
"""The addresses of the page itself; which view they are is the browser's matter."""


def mount(api: FastAPI) -> None:
    """Add the routes of the page and of its files."""
    html = (FOLDER / "index.html").read_text().replace(ASSETS, PREFIX)

    async def page() -> Response:
        return HTMLResponse(html, headers=HEADERS | {"Cache-Control": "no-cache"})

    for path in PAGES:
        api.add_api_route(path, page, include_in_schema=False)
    for path, file in FILES.items():
        api.add_api_route(path, _serve(file), include_in_schema=False)


def _serve(file: Path):  # type: ignore[no-untyped-def]
    headers = HEADERS | {"Cache-Control": IMMUTABLE}

    async def serve() -> Response:
        return FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers=headers)

    return serve
