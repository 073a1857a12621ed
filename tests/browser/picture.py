"""The animated image of the README, recorded from the real page.

`scripts/picture` runs it: it starts `tailrace dev` with the demo model, asks for the long numbered answer, kills the
worker with the page's own button, and records until the page has compared its text with the log's. Every frame is a
screenshot; the pointer is drawn into it where the browser's mouse was. Until LIVE_S after the text has gone on, the
animation takes as long as the page did; from then on it shows one frame for LAPSE_S of the answer.
"""

import argparse
import asyncio
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw
from playwright.async_api import Locator, Page, ViewportSize, async_playwright, expect

from support.chromium import ARGUMENTS, CHROMIUM
from support.dev import dev

PICTURE = Path(__file__).parents[2] / "docs" / "picture.webp"
LIMIT_BYTES = 2_000_000

VIEWPORT = ViewportSize(width=800, height=640)
SCALE = 1.5
FRAME_S = 0.1
LAPSE_S = 5.0
LAPSE_FRAME_S = 0.15
LAST_FRAME_S = 6.0

EMPTY_PAGE_S = 1.0
BEFORE_THE_KILL_S = 0.5
LIVE_S = 5.0
ANSWER_S = 180.0

POINTER = ((0, 0), (0, 17), (4, 13), (7, 19), (9, 18), (6.5, 12), (12, 12))
POINTER_PARTS = [1 / left for left in range(8, 0, -1)]
POINTER_STEP_S = 0.05
HOVER_S = 0.3

EXAMPLE = "A long answer, numbered"
NOTHING_LOST = "nothing lost, nothing twice"


class Position(NamedTuple):
    """Of the pointer, in CSS pixels, from this time on."""

    at: float
    x: float
    y: float


REST = Position(0, 740, 480)


class Frame(NamedTuple):
    """A screenshot as PNG; `shown_s`: how long the animation shows it, None: until the next one was taken."""

    at: float
    png: bytes
    shown_s: float | None


class Recording:
    """Takes screenshots of a page while its block runs."""

    def __init__(self, page: Page) -> None:
        self.frames: list[Frame] = []
        self.positions = [REST]
        self._page = page
        self._interval_s = FRAME_S
        self._shown_s: float | None = None

    def lapse(self) -> None:
        """From now on take a frame each LAPSE_S, and show it for LAPSE_FRAME_S."""
        self._interval_s, self._shown_s = LAPSE_S, LAPSE_FRAME_S

    async def run(self) -> None:
        while True:
            began, interval_s, shown_s = time.monotonic(), self._interval_s, self._shown_s
            if await self.take(shown_s):
                await asyncio.sleep(max(0.0, began + interval_s - time.monotonic()))

    async def take(self, shown_s: float | None) -> bool:
        """Take a frame. False if the page has scrolled meanwhile: such a screenshot shows it displaced."""
        at, scrolled = time.monotonic(), await self._page.evaluate("scrollY")
        png = await self._page.screenshot(animations="allow", caret="initial")
        is_still = bool(await self._page.evaluate("scrollY") == scrolled)
        if is_still:
            self.frames.append(Frame(at, png, shown_s))
        return is_still

    async def click(self, target: Locator) -> None:
        """Move the pointer to a control, as a hand does, press it, and leave. The control may move meanwhile."""
        for part in POINTER_PARTS:
            await self._move(part, *await _middle(target))
        await asyncio.sleep(HOVER_S)
        await target.click()
        for part in POINTER_PARTS:
            await self._move(part, REST.x, REST.y)

    async def _move(self, part: float, to_x: float, to_y: float) -> None:
        """Move the pointer by this part of the way that is left."""
        _, x, y = self.positions[-1]
        moved = Position(time.monotonic(), x + (to_x - x) * part, y + (to_y - y) * part)
        await self._page.mouse.move(moved.x, moved.y)
        self.positions.append(moved)
        await asyncio.sleep(POINTER_STEP_S)


async def _middle(target: Locator) -> tuple[float, float]:
    box = await target.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@contextlib.asynccontextmanager
async def recording(page: Page) -> AsyncIterator[Recording]:
    running = Recording(page)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    assert await running.take(LAST_FRAME_S)


async def record_the_kill(page: Page) -> Recording:
    """Ask for the long answer, kill the worker, and wait until the page has compared its text with the log's."""
    await expect(page.get_by_role("button", name=EXAMPLE)).to_be_visible(timeout=30_000)
    experiment = page.locator(".experiment")
    async with recording(page) as running:
        await asyncio.sleep(EMPTY_PAGE_S)
        await running.click(page.get_by_role("button", name=EXAMPLE))
        await expect(page.get_by_role("button", name="Kill the worker")).to_be_enabled()
        await asyncio.sleep(BEFORE_THE_KILL_S)
        await running.click(page.get_by_role("button", name="Kill the worker"))
        await expect(experiment).to_contain_text("text goes on after", timeout=30_000)
        await asyncio.sleep(LIVE_S)
        running.lapse()
        await expect(experiment).to_contain_text(NOTHING_LOST, timeout=ANSWER_S * 1000)
    return running


def draw_pointer(image: Image.Image, positions: Sequence[Position], at: float) -> None:
    _, x, y = [each for each in positions if each.at <= at][-1]
    outline = [((x + dx) * SCALE, (y + dy) * SCALE) for dx, dy in POINTER]
    ImageDraw.Draw(image).polygon(outline, fill="black", outline="white", width=2)


def shown_frames(recorded: Recording) -> Iterator[tuple[Image.Image, int]]:
    """Every image and for how many milliseconds it is shown."""
    frames = recorded.frames
    for frame, following in zip(frames, [*frames[1:], frames[-1]], strict=True):
        image = Image.open(io.BytesIO(frame.png)).convert("RGB")
        draw_pointer(image, recorded.positions, frame.at)
        yield image, round(1000 * (frame.shown_s or following.at - frame.at))


def encode(recorded: Recording, path: Path) -> None:
    """Write the animation; it repeats."""
    (first, _), *rest = shown = list(shown_frames(recorded))
    durations = [milliseconds for _, milliseconds in shown]
    others = [image for image, _ in rest]
    first.save(
        path, save_all=True, append_images=others, duration=durations, loop=0, lossless=True, quality=60, method=4
    )


async def take(path: Path) -> None:
    with tempfile.TemporaryDirectory() as root:
        async with dev(Path(root), "--demo") as running, async_playwright() as playwright:
            chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = await chromium.new_page(
                viewport=VIEWPORT, device_scale_factor=SCALE, color_scheme="light", locale="en-GB"
            )
            await page.goto(running.url)
            recorded = await record_the_kill(page)
            await chromium.close()
    encode(recorded, path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/picture", description="Record the animated image of the README.")
    parser.add_argument("--output", type=Path, default=PICTURE, help="file to write; default: docs/picture.webp")
    path = parser.parse_args().output
    if CHROMIUM is None:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    asyncio.run(take(path))
    size = path.stat().st_size
    print(f"{path}: {size / 1e6:.2f} MB")
    return int(size > LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
