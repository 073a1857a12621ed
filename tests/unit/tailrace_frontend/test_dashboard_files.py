"""The files of the dashboard: whole, small, without a build and without another server."""

import gzip
import hashlib
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from fastapi import FastAPI

from support import npm
from support.asgi import ask
from tailrace_frontend.page import dashboard_files
from tailrace_frontend.page.dashboard_files import FILES, FOLDER, PREFIX

VENDOR = FOLDER / "vendor"
MODULES = sorted(FOLDER.glob("*.js"))
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())


def application() -> FastAPI:
    api = FastAPI()
    dashboard_files.mount(api)
    return api


@pytest.mark.parametrize("path", list(FILES))
async def test_files_are_served_unmodified_and_kept_for_a_year(path: str) -> None:
    response = await ask(application(), "GET", path)
    assert response.status == 200
    assert response.body == FILES[path].read_bytes()
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_html_names_files_by_their_hash_and_has_nothing_inline() -> None:
    response = await ask(application(), "GET", "/dashboard")
    html = response.body.decode()
    assert re.fullmatch(r"/dashboard/[0-9a-f]{16}", PREFIX)
    loaded = re.findall(r"<(?:script|link)\b[^>]*?(?:src|href)=\"([^\"]+)\"", html)
    assert {each for each in loaded if each != "/favicon.svg"} <= set(FILES)
    assert len(loaded) > 5
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>|\son\w+=|\sstyle=|<style", html)
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_imports_of_the_modules_are_served() -> None:
    imported = {
        each for file in MODULES for each in re.findall(r'^import .*?"\./([^"]+)";', file.read_text(), re.MULTILINE)
    }
    assert len(imported) > 10
    assert {f"{PREFIX}/{name}" for name in imported} <= set(FILES)


def test_modules_make_no_markup_of_text() -> None:
    for file in MODULES:
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", file.read_text()), file


def test_modules_are_short() -> None:
    assert {file.name for file in (*MODULES, *FOLDER.glob("*.css")) if file.read_text().count("\n") >= 300} == set()


def test_whole_dashboard_fits_its_budget() -> None:
    """120 KB at most, far from them as a wheel holds it and as a browser receives it: compressed, with the licence and
    `tailrace.js`. Unpacked, the modules and styles alone are below; uPlot's minified build has another 53 KB."""
    files = [*(file for file in FOLDER.rglob("*") if file.is_file()), *FILES.values()]
    packed = {file: len(gzip.compress(file.read_bytes())) for file in files}
    assert sum(packed.values()) < 80_000
    assert sum(file.stat().st_size for file in packed if VENDOR not in file.parents) < 120_000


def test_vendored_files_are_those_of_the_manifest() -> None:
    vendored = {file.name for file in VENDOR.iterdir() if file.suffix in (".js", ".css")}
    assert vendored == set(MANIFEST)
    for name, entry in MANIFEST.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == entry["sha256"]
        assert (VENDOR / f"LICENSE.{entry['package']}").stat().st_size > 500


@npm.requires_npm
def test_vendored_files_are_those_that_npm_has(tmp_path: Path) -> None:
    (package,) = {f"{entry['package']}@{entry['version']}" for entry in MANIFEST.values()}
    run = subprocess.run(["npm", "pack", package, *npm.FAILS_EARLY], cwd=tmp_path, capture_output=True, text=True)
    if run.returncode and npm.UNREACHABLE.search(run.stderr):
        pytest.skip(npm.NO_REGISTRY)
    assert run.returncode == 0, run.stderr
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as archive:
        for name, entry in MANIFEST.items():
            file = archive.extractfile(f"package/{entry['path']}")
            assert file is not None
            assert file.read() == (VENDOR / name).read_bytes()
