"""The answer to a browser at an address that does not exist: a small page instead of JSON.

The page has no script and loads nothing but the icon. Its style is allowed by its hash.
"""

import base64
import hashlib
from html import escape

from fastapi.responses import HTMLResponse

MAX_PATH = 200
"""Characters of the address that the page repeats."""

STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: light-dark(#fbfbf9, #121516);
  color: light-dark(#1d2324, #e4e8e6); }
main { max-width: 34rem; margin: 18vh auto 0; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; margin: 1rem 0 .5rem; }
code { overflow-wrap: anywhere; }
a { color: inherit; }
li { margin: .25rem 0; }
"""

PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Not found · Tailrace</title>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <link rel="icon" href="/favicon.svg" type="image/svg+xml">
    <style>{style}</style>
  </head>
  <body>
    <main>
      <img src="/favicon.svg" alt="" width="32" height="32">
      <h1>There is no page at this address.</h1>
      <p><code>{path}</code></p>
      <ul>
        <li><a href="/">Ask a question</a></li>
        <li><a href="/docs">The API</a></li>
      </ul>
    </main>
  </body>
</html>
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; img-src 'self'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept",
    "X-Content-Type-Options": "nosniff",
}


def not_found_page(path: str) -> HTMLResponse:
    """The page, with the address that was asked for."""
    html = PAGE.format(style=STYLE, path=escape(path[:MAX_PATH]))
    return HTMLResponse(html.encode("utf-8", "replace"), 404, HEADERS)
