"""What `scripts/picture` records, at its full length but with a model that answers faster."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from PIL import Image, ImageSequence
from playwright.async_api import Page, Route

from browser import picture
from support.dev import dev

OpenPage = Callable[..., Awaitable[Page]]

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]


async def test_picture_shows_the_kill_and_ends_with_the_comparison(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "LAPSE_S", 0.5)

    async def faster(route: Route) -> None:
        await route.continue_(post_data=(route.request.post_data_json or {}) | {"tokens_per_second": 250})

    async with dev(tmp_path, "--demo") as running:
        page = await open_page(
            running.url, disturbed=True, viewport=picture.VIEWPORT, device_scale_factor=picture.SCALE
        )
        await page.route("**/v1/generations", faster)
        recorded = await picture.record_the_kill(page)
        assert "text goes on after" in await page.locator(".experiment").inner_text()
    path = tmp_path / "picture.webp"
    picture.encode(recorded, path)
    with Image.open(path) as image:
        assert image.size == tuple(int(picture.VIEWPORT[side] * picture.SCALE) for side in ("width", "height"))
        shown_ms = [duration_ms(frame) for frame in ImageSequence.Iterator(image)]
    assert 1 < len(shown_ms) <= len(recorded.frames)  # WebP joins equal frames
    assert sum(shown_ms) == sum(milliseconds for _, milliseconds in picture.shown_frames(recorded))
    assert shown_ms[-1] >= picture.LAST_FRAME_S * 1000


def duration_ms(frame: Image.Image) -> int:
    frame.load()
    return int(frame.info["duration"])
