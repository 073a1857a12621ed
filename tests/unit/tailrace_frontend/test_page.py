import re

import pytest
from fastapi import FastAPI

from support.asgi import ask
from tailrace_frontend import page

PATHS = list(page.FILES)


def application() -> FastAPI:
    api = FastAPI()
    page.mount(api)
    return api


@pytest.mark.parametrize("path", PATHS)
async def test_files_are_served_unmodified_with_their_media_type(path: str) -> None:
    response = await ask(application(), "GET", path)
    name, media_type = page.FILES[path]
    assert response.status == 200
    assert response.headers["content-type"] == media_type
    assert response.body == (page.HERE / name).read_bytes()


@pytest.mark.parametrize("path", PATHS)
async def test_files_are_served_with_security_headers(path: str) -> None:
    headers = (await ask(application(), "GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_browser_module_is_the_only_file_open_to_other_origins() -> None:
    served = {path: (await ask(application(), "GET", path)).headers for path in PATHS}
    open_to_all = {path for path, headers in served.items() if headers.get("access-control-allow-origin") == "*"}
    assert open_to_all == {"/tailrace.js"}


async def test_html_loads_nothing_from_other_servers_and_has_no_inline_script() -> None:
    html = (page.HERE / "index.html").read_text()
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?([^\"'\s>]+)", html)
    assert loaded
    assert all(address in PATHS for address in loaded)
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", html)
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"\sstyle=|<style", html)


async def test_imports_of_the_modules_are_served() -> None:
    for name in ("page.js", "tailrace.js"):
        for address in re.findall(r"from\s+\"([^\"]+)\"", (page.HERE / name).read_text()):
            assert "/" + address.removeprefix("./").removeprefix("/") in PATHS


async def test_files_are_absent_from_the_openapi_document() -> None:
    assert application().openapi()["paths"] == {}
