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
async def test_every_file_is_served_as_it_is_with_its_type(path: str) -> None:
    told = await ask(application(), "GET", path)
    name, media_type = page.FILES[path]
    assert told.status == 200
    assert told.headers["content-type"] == media_type
    assert told.body == (page.HERE / name).read_bytes()


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_comes_with_the_headers_that_keep_a_page_safe(path: str) -> None:
    headers = (await ask(application(), "GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_only_the_module_may_be_used_by_pages_of_other_origins() -> None:
    told = {path: (await ask(application(), "GET", path)).headers for path in PATHS}
    open_to_all = {path for path, headers in told.items() if headers.get("access-control-allow-origin") == "*"}
    assert open_to_all == {"/tailrace.js"}


async def test_the_page_needs_nothing_from_any_other_server_and_no_script_in_its_text() -> None:
    html = (page.HERE / "index.html").read_text()
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=[\"']?([^\"'\s>]+)", html)
    assert loaded
    assert all(address in PATHS for address in loaded)
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", html)
    assert not re.search(r"\son\w+=", html)
    assert not re.search(r"\sstyle=|<style", html)


async def test_what_the_page_imports_is_served() -> None:
    for name in ("page.js", "tailrace.js"):
        for address in re.findall(r"from\s+\"([^\"]+)\"", (page.HERE / name).read_text()):
            assert "/" + address.removeprefix("./").removeprefix("/") in PATHS


async def test_the_files_do_not_stand_in_the_documentation_of_the_api() -> None:
    assert application().openapi()["paths"] == {}
