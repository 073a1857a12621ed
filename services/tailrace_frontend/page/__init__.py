"""The chat page at `/`: static HTML, CSS and ES modules, served unmodified."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

HERE = Path(__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "/tailrace.js": ("tailrace.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def mount(api: FastAPI) -> None:
    """Add the routes of the page's files. Pages of other origins may load `/tailrace.js` only."""
    for path, (name, media_type) in FILES.items():
        headers = HEADERS | ({"Access-Control-Allow-Origin": "*"} if name == "tailrace.js" else {})
        api.add_api_route(path, _file(HERE / name, media_type, headers), include_in_schema=False)


def _file(file: Path, media_type: str, headers: dict[str, str]):  # type: ignore[no-untyped-def]
    async def serve(_: Request) -> Response:
        return FileResponse(file, media_type=media_type, headers=headers)

    return serve
