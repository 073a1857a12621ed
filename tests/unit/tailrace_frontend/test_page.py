import gzip
import hashlib
import json
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
    modules = list(page.HERE.glob("*.js"))
    addresses = {
        each
        for file in modules
        for each in re.findall(r"^(?:import|\} from|.* from) \"([^\"]+)\"", file.read_text(), re.MULTILINE)
    }
    assert len(addresses) > 10
    assert addresses <= set(PATHS)


async def test_static_imports_of_the_page_are_preloaded() -> None:
    """Without it, modules are found one after the other: a round trip for each level of imports."""
    html = (page.HERE / "index.html").read_text()
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', html))
    wanted, seen = ["/page.js"], set[str]()
    while wanted:
        address = wanted.pop()
        if address not in seen and not address.startswith("/vendor/"):
            wanted += re.findall(r'^import .*"([^"]+)";', (page.HERE / address[1:]).read_text(), re.MULTILINE)
        seen.add(address)
    assert preloaded == seen - {"/page.js"}


async def test_style_sheets_are_loaded_by_the_html_alone() -> None:
    """An `@import` is found after its parent has arrived: a round trip more before the first paint."""
    linked = set(re.findall(r'rel="stylesheet" href="([^"]+)"', (page.HERE / "index.html").read_text()))
    assert linked == {path for path in PATHS if path.endswith(".css")}
    assert not any("@import" in file.read_text() for file in page.HERE.glob("*.css"))


async def test_modules_and_style_sheets_are_short() -> None:
    files = [*page.HERE.glob("*.js"), *page.HERE.glob("*.css")]
    lengths = {file.name: len(file.read_text().splitlines()) for file in files}
    assert {name: length for name, length in lengths.items() if length >= 300} == {}


async def test_vendored_files_are_those_of_the_manifest() -> None:
    vendor = page.HERE / "vendor"
    manifest = json.loads((vendor / "manifest.json").read_text())
    hashes = {
        str(file.relative_to(vendor)): hashlib.sha256(file.read_bytes()).hexdigest() for file in vendor.rglob("*.js")
    }
    assert hashes == {name: entry["sha256"] for name, entry in manifest.items()}
    licences = {
        "marked": "marked",
        "dompurify": "dompurify",
        "lean-qr": "lean-qr",
        "@highlightjs/cdn-assets": "highlight",
    }
    for entry in manifest.values():
        assert entry["version"]
        assert entry["licence"]
        assert (vendor / f"LICENSE.{licences[entry['package']]}").stat().st_size > 500


async def test_page_and_its_libraries_fit_their_budget() -> None:
    """Bytes of a first visit; gzip is what a browser receives."""
    html = (page.HERE / "index.html").read_text()
    loaded = {"/", *re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css|svg))"', html)}
    files = {path: (page.HERE / page.FILES[path][0]).read_bytes() for path in loaded}
    assert sum(len(data) for path, data in files.items() if "/vendor/" in path) < 120_000
    assert sum(len(gzip.compress(data)) for data in files.values()) < 80_000


async def test_page_names_the_retention_and_knows_tailrace_dev() -> None:
    assert b"data-retention-s" not in (await ask(application(), "GET", "/")).body
    api = FastAPI()
    page.mount(api, retention_s=7200, is_dev=True)
    assert b'<html lang="en" data-retention-s="7200" data-dev>' in (await ask(api, "GET", "/")).body


async def test_files_are_absent_from_the_openapi_document() -> None:
    assert application().openapi()["paths"] == {}
