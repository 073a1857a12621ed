"""Accessibility, by axe-core, and the budgets of the page: layout at every width, first paint, a long answer."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from support import npm
from support.chat_page import END, finished_answer, generate, generate_text, generate_tokens, wait_for_tokens
from support.page_cpu import PageCpu
from support.stack import Stack

OpenPage = Callable[..., Awaitable[Page]]

AXE = Path(__file__).parent / "axe"
WIDTHS = (320, 390, 1280)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
FRAMES = 300
FRAME_MS = 10
TOKEN_MS = 3
"""CPU of the page for a frame while it scrolls, and for a token that arrives: ten times what was measured."""

BLOCKING_BYTES = 24_000
"""Of the stylesheets, uncompressed."""

LONG_TOKENS = 50_000

EVERYTHING = """\
# Heading

Some **bold** text, `code`, [a link](https://example.org/a_(b)) and https://example.org/an-address-that-is-long/and/longer/still.

| Planet | Mass | A column with a long heading | Another column with a long heading |
|---|--:|---|---|
| Mercury | 0.33 | some words in a cell | some more words in a cell |

- [ ] open
- [x] done

```python
def sort(planets: list[str]) -> list[str]:  # a comment of some length, so that the block scrolls sideways on a phone
    return sorted(planets, key=lambda planet: planet.mass, reverse=True)
```

> A quote
"""

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source."""
    return (npm.install(AXE) / "node_modules/axe-core/axe.min.js").read_text()


async def serious_findings(page: Page, axe: str) -> list[str]:
    await page.evaluate(axe)
    findings: list[str] = await page.evaluate(RUN_AXE)
    return findings


async def assert_fits(page: Page, width: int) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


@npm.requires_npm
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
async def test_every_state_is_accessible_and_fits(
    product: Stack, open_page: OpenPage, axe: str, width: int, scheme: Literal["light", "dark"]
) -> None:
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    page = await open_page(product.url + "/", disturbed=True, reduced_motion="reduce", **options)
    findings: dict[str, list[str]] = {}

    async def check(state: str) -> None:
        await assert_fits(page, width)
        findings[state] = await serious_findings(page, axe)

    await expect(page.locator("#examples button").first).to_be_visible()
    await check("empty")
    finished = await generate_text(product, EVERYTHING)
    await page.goto(finished.url)
    await finished_answer(page)
    await expect(page.locator(".hljs-comment")).to_be_visible()
    await check("finished")
    await page.get_by_role("button", name="Menu").click()
    await check("menu")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Recent").click()
    await expect(page.locator("#rows a").first).to_be_visible()
    await check("recent")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="On a phone").click()
    await expect(page.locator("#qr-note")).to_be_visible()
    await check("phone")
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Edit").click()
    await check("editing")
    await page.goto((await generate_tokens(product, 2000, rate=50)).url)
    await wait_for_tokens(page, 20)
    await check("live")
    await page.keyboard.press("Escape")
    await page.goto((await generate(product, [{"statuses": [400]}])).url)
    await expect(page.locator("#status")).to_have_attribute("data-state", "failed")
    await check("failed")
    await page.goto(f"{product.url}/?id=gen_{'a' * 26}")
    await expect(page.locator("#gone-title")).to_be_visible()
    await check("gone")
    assert {state: each for state, each in findings.items() if each} == {}


async def test_all_controls_are_reached_by_the_keyboard(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, EVERYTHING)).url)
    await finished_answer(page)
    await page.locator(".brand").focus()
    reached = ["Tailrace"]
    for _ in range(30):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("(document.activeElement.ariaLabel ?? document.activeElement.textContent).trim()")
        )
        if reached[-1] == "Send":
            break
    for name in ("Tailrace", "Recent answers", "New chat", "Menu", "Edit", "a link", "Copy", "Retry", "Copy link",
                 "As curl", "On a phone"):  # fmt: skip
        assert name in reached
    assert reached[-1] == "Send"


async def test_first_paint_waits_for_small_stylesheets_alone(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    blocking: list[tuple[str, int]] = await page.evaluate(
        """performance.getEntriesByType("resource")
          .filter((each) => each.renderBlockingStatus === "blocking")
          .map((each) => [new URL(each.name).pathname, each.decodedBodySize])"""
    )
    assert blocking
    assert [path for path, _ in blocking if not path.endswith(".css")] == []
    assert sum(size for _, size in blocking) < BLOCKING_BYTES


async def test_very_long_answer_scrolls_smoothly(product: Stack, open_page: OpenPage) -> None:
    words = [f"word{k}" for k in range(LONG_TOKENS)]
    paragraphs = [" ".join(words[k : k + 100]) for k in range(0, LONG_TOKENS, 100)]
    script = [
        {"delta": {"content": "\n\n".join(paragraphs[k : k + 50]) + "\n\n"}} for k in range(0, len(paragraphs), 50)
    ]
    page = await open_page((await generate(product, [*script, *END])).url)
    await finished_answer(page)
    assert await page.locator(".prose > p").count() == len(paragraphs)
    cpu = PageCpu(page)
    await cpu.begin()
    await page.evaluate(
        """(frames) => new Promise((resolve) => {
          const step = (left) => {
            scrollBy(0, 120);
            if (left) requestAnimationFrame(() => step(left - 1));
            else resolve();
          };
          step(frames);
        })""",
        FRAMES,
    )
    assert await cpu.spent_ms() / FRAMES < FRAME_MS


async def test_long_answer_streams_without_long_frames(product: Stack, open_page: OpenPage) -> None:
    """One paragraph without an end, which is the worst case for a renderer that parses the last block again."""
    page = await open_page((await generate_tokens(product, 6000, rate=1000)).url)
    await wait_for_tokens(page, 2000)
    cpu = PageCpu(page)
    await cpu.begin()
    await finished_answer(page)
    assert await cpu.spent_ms() / 4000 < TOKEN_MS


async def test_print_has_the_conversation_alone_and_cuts_no_code(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, EVERYTHING)).url, viewport={"width": 390, "height": 800})
    await finished_answer(page)
    await page.emulate_media(media="print")
    for part in ("header", "footer", ".actions", ".strip"):
        await expect(page.locator(part).first).to_be_hidden()
    await expect(page.locator(".prose pre")).to_be_visible()
    assert await page.locator(".prose pre").evaluate("pre => pre.scrollWidth <= pre.clientWidth")


async def test_print_is_dark_on_light_in_every_scheme(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, EVERYTHING)).url, color_scheme="dark")
    await finished_answer(page)
    await page.emulate_media(media="print", color_scheme="dark")
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    ink = await page.evaluate("getComputedStyle(document.querySelector('.prose p')).color")
    assert ink == "rgb(27, 34, 36)"
