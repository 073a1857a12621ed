"""The chat page at `/`: static HTML, CSS and ES modules, served unmodified.

`vendor/` has the libraries of others as npm publishes them: `vendor/manifest.json` names package, version, licence and
hash of each. The page's `html` element has the two facts that its files cannot know: the retention, and whether
`tailrace dev` has started this frontend.
"""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

HERE = Path(__file__).parent
DASHBOARD = HERE / "dashboard"
"""Another page, which `dashboard_files` serves."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES = {"/": ("index.html", "text/html; charset=utf-8")} | {
    f"/{file.relative_to(HERE)}": (str(file.relative_to(HERE)), MEDIA_TYPES[file.suffix])
    for file in sorted(HERE.rglob("*"))
    if file.suffix in MEDIA_TYPES and DASHBOARD not in file.parents
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def mount(api: FastAPI, *, retention_s: int | None = None, is_dev: bool = False) -> None:
    """Add the routes of the page's files. Pages of other origins may load `/tailrace.js` only.

    `retention_s`: the seconds for which an answer is kept, which the page names where one has expired. `is_dev`:
    whether `/dev` exists; the page then shows the buttons that break things.
    """
    for path, (name, media_type) in FILES.items():
        headers = HEADERS | ({"Access-Control-Allow-Origin": "*"} if name == "tailrace.js" else {})
        serve = (
            _html(HERE / name, retention_s, is_dev=is_dev) if path == "/" else _file(HERE / name, media_type, headers)
        )
        api.add_api_route(path, serve, include_in_schema=False)


def _file(file: Path, media_type: str, headers: dict[str, str]):  # type: ignore[no-untyped-def]
    async def serve(_: Request) -> Response:
        return FileResponse(file, media_type=media_type, headers=headers)

    return serve


def _html(file: Path, retention_s: int | None, *, is_dev: bool):  # type: ignore[no-untyped-def]
    facts = f' data-retention-s="{retention_s}"' if retention_s else ""
    facts += " data-dev" if is_dev else ""
    html = file.read_text().replace('<html lang="en">', f'<html lang="en"{facts}>')

    async def serve(_: Request) -> Response:
        return HTMLResponse(html, headers=HEADERS)

    return serve
