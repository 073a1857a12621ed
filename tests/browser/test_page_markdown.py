"""Markdown on the page: what models write, safe, and the same whether it arrives whole or in pieces."""

import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from support.chat_page import END, answer_in, finished_answer, generate, generate_text, wait_for_tokens
from support.markdown_texts import markdown_texts
from support.page_cpu import PageCpu
from support.stack import Stack

OpenPage = Callable[..., Awaitable[Page]]

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

DRAW_MS = 50
"""CPU of the page for a piece of 20 characters."""

RENDER = """async ([pieces, finishes]) => {
  const { Prose } = await import("/prose.js");
  const root = document.createElement("div");
  const prose = new Prose(root);
  for (const piece of pieces) prose.push(piece);
  if (finishes) prose.finish();
  return root.innerHTML;
}"""


async def render(page: Page, *pieces: str, finishes: bool = True) -> str:
    html: str = await page.evaluate(RENDER, [list(pieces), finishes])
    return html.strip()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("***both***", "<p><em><strong>both</strong></em></p>"),
        ("__b__ and _i_ and ~~gone~~", "<p><strong>b</strong> and <em>i</em> and <del>gone</del></p>"),
        (r"\*escaped\*", "<p>*escaped*</p>"),
        ("snake_case_name", "<p>snake_case_name</p>"),
        ("Heading\n===", "<h1>Heading</h1>"),
        ("![alt](https://example.org/x.png)", "alt</a></p>"),
        ("https://en.wikipedia.org/wiki/A_(b)_c", 'href="https://en.wikipedia.org/wiki/A_(b)_c"'),
        ("[x](https://en.wikipedia.org/wiki/A_(b)_c)", 'href="https://en.wikipedia.org/wiki/A_(b)_c"'),
        ("- [ ] open\n- [x] done", '<input type="checkbox" disabled="" aria-label="open"> open'),
        ("| a | b |\n|---|--:|\n| 1<br>2 | 3 |", '<td>1<br>2</td><td align="right">3</td>'),
        ("> - quoted", "<blockquote>\n<ul>\n<li>quoted</li>\n</ul>\n</blockquote>"),
        ("1. a\n   - b", "<ol>\n<li>a<ul>\n<li>b</li>\n</ul>\n</li>\n</ol>"),
        ("```python\nx = 1\n```", '<pre tabindex="0"><code class="language-python" data-highlighted="python">x = 1'),
        ("one\ntwo", "<p>one<br>two</p>"),
    ],
)
async def test_markdown_of_real_models_is_rendered(
    product: Stack, open_page: OpenPage, source: str, expected: str
) -> None:
    page = await open_page(product.url + "/")
    assert expected in await render(page, source)


@pytest.mark.parametrize(
    "source",
    [
        "<img src=x onerror=alert(1)>",
        "<svg><a href=javascript:alert(1)>x</a></svg>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        '[x](https://example.org/" onmouseover="alert(1))',
        "![x](https://example.org/pixel.png)",
        "<style>body{display:none}</style>",
        "<form action=//example.org><input name=a></form>",
        '```x" onload="alert(1)\n</code><script>alert(1)</script>\n```',
        "<math><mtext><table><mglyph><style><img src onerror=alert(1)>",
        "<a id=send name=send href=https://example.org>x</a>",
    ],
)
async def test_markdown_admits_no_html_and_no_foreign_load(product: Stack, open_page: OpenPage, source: str) -> None:
    page = await open_page(product.url + "/")
    found = await page.evaluate(
        """async (source) => {
          const { renderWhole } = await import("/prose.js");
          const root = renderWhole(source);
          document.body.append(root);
          const forbidden = root.querySelectorAll("img, script, svg, style, form, iframe, math, [id], [name], [style]");
          const handlers = [...root.querySelectorAll("*")].flatMap((each) => each.getAttributeNames())
            .filter((name) => name.startsWith("on"));
          const links = [...root.querySelectorAll("a:not([href^='https:'])")];
          return [...forbidden, ...handlers, ...links].map(String);
        }""",
        source,
    )
    assert found == []


async def test_markdown_in_pieces_is_rendered_as_the_whole(product: Stack, open_page: OpenPage) -> None:
    """With seams at every place, also within marks, fences and rows."""
    page = await open_page(product.url + "/")
    source = "\n\n".join((Path(__file__).parents[2] / name).read_text() for name in ("README.md", "docs/events.md"))[
        :30_000
    ]
    whole = await render(page, source)
    for seed in range(3):
        chance = random.Random(seed)
        pieces, at = [], 0
        while at < len(source):
            size = chance.choice([1, 3, 7, 40, 300])
            pieces.append(source[at : at + size])
            at += size
        text = """(html) => {
          const root = document.createElement("div");
          root.innerHTML = html;
          const kinds = root.querySelectorAll(":is(h1, h2, h3, a, strong, code, td, pre)");
          return [root.innerText.replace(/\\s+/g, " "), [...kinds].map((each) => each.localName)];
        }"""
        assert await page.evaluate(text, await render(page, *pieces)) == await page.evaluate(text, whole)


STREAMED_AND_WHOLE = """async (texts) => {
  const { Prose, renderWhole } = await import("/prose.js");
  const around = /\\s*(<\\/?(?:p|ul|ol|li|blockquote|h\\d|hr|table|thead|tbody|tr|td|th|div|figure|br)\\b[^>]*>)\\s*/g;
  const htmlOf = (root) => { // without the colours of code, which come when a language is loaded
    for (const code of root.querySelectorAll("code")) code.textContent = code.textContent;
    return root.innerHTML.replace(/ data-highlighted="[^"]*"/g, "").replace(around, "$1").trim();
  };
  return texts.map((pieces) => {
    const root = document.createElement("div");
    const prose = new Prose(root);
    for (const piece of pieces) prose.push(piece);
    prose.finish();
    return [htmlOf(root), htmlOf(renderWhole(pieces.join("")))];
  });
}"""


@pytest.mark.parametrize(
    "pieces",
    [
        ["Intro line\n", "***", "Important:***"],
        ["- item\n", "***", "both***"],
        ["Some text\n", "#", "hashtag"],
        ["> quote\n", "#", "tag"],
        ["Line\n", "```", "inline```"],
        ["Para\n", "[", "- x]"],
        ["| a |\n|---|\n| 1 |\n", "***", "Note***\n| 2 |"],
        ["Para\n| a | b |\n|---|---|", "x\n| 1 | 2 |"],
        ["1. a\n\n2", ". b\n\n3", ". c"],
        ["- a\n\n", " ", " b"],
        ["Para\n1)\n", "|:-:|--:|\n", "| a | b |\n"],
    ],
    ids="".join,
)
async def test_kind_of_a_line_is_not_taken_before_its_end(
    product: Stack, open_page: OpenPage, pieces: list[str]
) -> None:
    page = await open_page(product.url + "/")
    [[streamed, whole]] = await page.evaluate(STREAMED_AND_WHOLE, [pieces])
    assert streamed == whole


async def test_random_markdown_in_characters_is_rendered_as_the_whole(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    texts = markdown_texts(200, seed=1)
    rendered = await page.evaluate(STREAMED_AND_WHOLE, [list(text) for text in texts])
    assert [(text, *pair) for text, pair in zip(texts, rendered, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a **bold", "<p>a <strong>bold</strong></p>"),
        ("a **", "<p>a </p>"),
        ("a *it", "<p>a <em>it</em></p>"),
        ("a `co", "<p>a <code>co</code></p>"),
        ("a [link](https://exam", "<p>a link</p>"),
        ("a [li", "<p>a li</p>"),
        ("* item", "<ul>\n<li>item</li>\n</ul>"),
        ("2 * 3", "<p>2 * 3</p>"),
        ("**a** and ~~b", "<p><strong>a</strong> and <del>b</del></p>"),
        ("```\n**x", "<code>**x</code>"),
    ],
)
async def test_open_marks_are_closed_while_the_line_grows(
    product: Stack, open_page: OpenPage, source: str, expected: str
) -> None:
    page = await open_page(product.url + "/")
    assert expected in await render(page, source, finishes=False)


async def test_token_leaves_selection_and_nodes_in_place(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    assert await page.evaluate(
        """async () => {
          const { Prose } = await import("/prose.js");
          const root = document.body.appendChild(document.createElement("div"));
          const prose = new Prose(root);
          prose.push("First words, **bold** and");
          const [text] = root.querySelector("p").childNodes;
          getSelection().setBaseAndExtent(text, 0, text, 5);
          prose.push(" more of them, and `code`.\\n\\nNext");
          return [getSelection().toString(), root.querySelector("p").firstChild === text];
        }"""
    ) == ["First", True]


async def test_line_keeps_its_nodes_when_the_block_before_it_is_complete(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    assert await page.evaluate(
        """async () => {
          const { Prose } = await import("/prose.js");
          const root = document.body.appendChild(document.createElement("div"));
          const prose = new Prose(root);
          prose.push("Before:\\n\\n- An item");
          const [before, list] = root.children;
          const [text] = list.querySelector("li").childNodes;
          getSelection().setBaseAndExtent(text, 3, text, 7);
          prose.push(" of words\\n");
          prose.push("- and another");
          const [item] = list.children;
          return [getSelection().toString(), item.firstChild === text, [...root.children].length, before.isConnected];
        }"""
    ) == ["item", True, 2, True]


HOSTILE = {
    "quotes": ">" * 6_000,
    "spaced quotes": "> " * 6_000,
    "lists": "- " * 6_000 + "a",
    "numbered lists": "1. " * 6_000,
    "lists in quotes": "> - " * 3_000,
    "indented lists": "\n".join("  " * k + "- a" for k in range(150)),
    "brackets": "[" * 10_000,
    "links in links": "[" * 3_000 + "a" + "](b)" * 3_000,
    "asterisks": "*" * 10_000,
    "emphasis in emphasis": "*a " * 2_000 + " b*" * 2_000,
    "bold in bold": "**a " * 1_500 + " b**" * 1_500,
    "unclosed emphasis": "**_a" * 3_000,
    "backticks": "`a``b```c" * 1_200,
    "tags": "<a " * 4_000,
    "addresses": "a_" * 6_000,
    "columns": "|a" * 3_000 + "\n" + "|-" * 3_000 + "\n" + "|b" * 3_000,
    "lines of a quote": "> " + "a\n" * 4_000,
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_markdown_is_drawn_in_a_bounded_time(product: Stack, open_page: OpenPage, source: str) -> None:
    page = await open_page(product.url + "/")
    cpu = PageCpu(page)
    await cpu.begin()
    pieces, html = await page.evaluate(
        """async (source) => {
          const { Prose } = await import("/prose.js");
          const root = document.createElement("div");
          const prose = new Prose(root);
          const pieces = (source + "\\n\\nThe **end**.").match(/[^]{1,20}/g);
          for (const piece of pieces) prose.push(piece);
          prose.finish();
          return [pieces.length, root.lastElementChild.outerHTML];
        }""",
        source,
    )
    assert await cpu.spent_ms() / pieces < DRAW_MS
    assert "The <strong>end</strong>." in html


async def test_answer_of_nested_quotes_is_read_to_its_end(product: Stack, open_page: OpenPage) -> None:
    page = await open_page((await generate_text(product, ">" * 8_000 + " deep\n\nThe **end**.")).url)
    assert "deep" in await finished_answer(page)
    await expect(answer_in(page).locator("strong")).to_have_text("end")


async def test_block_that_cannot_be_parsed_is_plain_text(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    html, failures = await page.evaluate(
        """async () => {
          const { Lexer } = await import("/vendor/marked.js");
          const { Prose } = await import("/prose.js");
          const root = document.createElement("div");
          const prose = new Prose(root);
          const { blockTokens } = Lexer.prototype;
          let failures = 0;
          Lexer.prototype.blockTokens = function (source, ...rest) {
            if (source.includes("unparsable") && ++failures) throw new RangeError("Maximum call stack size exceeded");
            return blockTokens.call(this, source, ...rest);
          };
          const source = "**One.**\\n\\nAn *unparsable* text\\nof <b>two lines</b>.\\n\\n**Three.**";
          for (const character of source) prose.push(character);
          prose.finish();
          Lexer.prototype.blockTokens = blockTokens;
          return [root.innerHTML, failures];
        }"""
    )
    assert html == (
        "<p><strong>One.</strong></p>"
        '<p class="plain">An *unparsable* text\nof &lt;b&gt;two lines&lt;/b&gt;.</p>'
        "<p><strong>Three.</strong></p>"
    )
    assert failures <= 3


LONG_BLOCKS = {
    "table": ("| a | b |\n|---|--:|\n" + "".join(f"| cell {k} | **{k}** |\n" for k in range(600)), "tbody tr", 600),
    "quote": ("".join(f"> A line, number {k}, of some words.\n" for k in range(600)), "blockquote > p > br", 599),
    "quoted paragraphs": ("".join(f"> Paragraph {k} of some words.\n>\n" for k in range(600)), "blockquote > p", 600),
    "quoted table": (
        "> | a | b |\n> |---|---|\n" + "".join(f"> | cell {k} | {k} |\n" for k in range(600)),
        "blockquote > div > table > tbody > tr",
        600,
    ),
    "list": ("".join(f"{k}. An item of some words.\n" for k in range(1, 601)), "ol > li", 600),
    "paragraph": ("".join(f"Line {k} of some words.\n" for k in range(600)), "p > br", 599),
    "heading": ("# " + "word " * 3_000, "h1", 1),
    "text without spaces": ("文字" * 10_000, "p", 1),
}


@pytest.mark.parametrize(("source", "selector", "count"), LONG_BLOCKS.values(), ids=LONG_BLOCKS)
async def test_long_block_is_parsed_in_parts_and_stays_one(
    product: Stack, open_page: OpenPage, source: str, selector: str, count: int
) -> None:
    page = await open_page(product.url + "/")
    longest, blocks, found, text = await page.evaluate(
        """async ([source, selector]) => {
          const { Lexer } = await import("/vendor/marked.js");
          const { Prose } = await import("/prose.js");
          const root = document.createElement("div");
          const prose = new Prose(root);
          const { lex } = Lexer.prototype;
          let longest = 0;
          Lexer.prototype.lex = function (text) {
            longest = Math.max(longest, text.length);
            return lex.call(this, text);
          };
          for (const piece of source.match(/[^]{1,20}/g)) prose.push(piece);
          prose.finish();
          Lexer.prototype.lex = lex;
          const found = root.querySelectorAll(selector).length;
          return [longest, root.children.length, found, root.textContent.replace(/\\s/g, "")];
        }""",
        [source, selector],
    )
    assert longest < 5_000
    assert (blocks, found) == (1, count)
    assert text == re.sub(r"^>|^#|\*\*|[|]|\d+\.|-{2,}:?|\s", "", source, flags=re.MULTILINE)


async def test_links_are_defined_after_the_text_that_refers_to_them(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    links, kept, text = await page.evaluate(
        """async () => {
          const { Prose } = await import("/prose.js");
          const root = document.createElement("div");
          const prose = new Prose(root);
          const push = (text) => text.match(/[^]{1,3}/g).forEach((piece) => prose.push(piece));
          push("See [one][1] and [two].\\n\\nNo link.\\n\\n- [three][]\\n\\n| a |\\n|---|\\n| [one][1] |\\n\\n");
          push("```js\\nx = y[1];\\n```\\n\\nText.\\n\\n");
          const before = [...root.children];
          const [first] = root.querySelector("p").childNodes;
          push("[1]: https://one.example/a\\n[two]: https://two.example 'T'\\n");
          push("[Three]: <https://three.example>\\n\\nEnd [one].");
          prose.finish();
          const kept =
            before.every((node, k) => root.children[k] === node) && root.querySelector("p").firstChild === first;
          return [[...root.querySelectorAll("a")].map((link) => link.getAttribute("href")), kept, root.textContent];
        }"""
    )
    assert links == ["https://one.example/a", "https://two.example", "https://three.example", "https://one.example/a"]
    assert kept
    assert "[1]:" not in text
    assert "x = y[1];" in text


async def test_incomplete_definition_is_neither_shown_nor_used(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    for length in range(1, len("[1]: https://e")):
        html = await render(page, "A [link][1].\n\n", "[1]: https://e"[:length], finishes=False)
        assert html == "<p>A [link][1].</p>"


async def test_columns_of_a_streamed_table_are_aligned(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    assert '<th align="right">b</th>' in await render(page, *"| a | b |\n|---|--:|\n| 1 | 2 |\n")


async def test_carriage_returns_end_lines(product: Stack, open_page: OpenPage) -> None:
    page = await open_page(product.url + "/")
    html = await render(page, *"One\r\n\r\n- two\r\n- three\r\n\r\nFour.")
    assert html.replace("\n", "") == "<p>One</p><ul><li>two</li><li>three</li></ul><p>Four.</p>"


async def test_code_is_highlighted_and_copied_whole(product: Stack, open_page: OpenPage) -> None:
    lines = [f"value_{k} = {k}  # a comment" for k in range(400)]
    code = "\n".join(lines)
    page = await open_page(
        (await generate_text(product, f"Here:\n\n```python\n{code}\n```\n\nThat is all.")).url,
        permissions=["clipboard-read", "clipboard-write"],
    )
    await finished_answer(page)
    await expect(answer_in(page).locator(".hljs-comment").first).to_be_visible()
    await answer_in(page).get_by_role("button", name="Copy").first.click()
    assert await page.evaluate("navigator.clipboard.readText()") == code
    await expect(answer_in(page).get_by_text("That is all.")).to_be_visible()


async def test_streamed_table_and_code_appear_before_they_are_complete(product: Stack, open_page: OpenPage) -> None:
    script: list[dict[str, Any]] = [
        {"delta": {"content": "| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet x"}},
        {"tokens": {"count": 100, "rate": 20}},
        *END,
    ]
    page = await open_page((await generate(product, script)).url)
    await wait_for_tokens(page, 10)
    assert await answer_in(page).locator("td").count() == 2
    await expect(answer_in(page).locator("figcaption span")).to_have_text("js")
