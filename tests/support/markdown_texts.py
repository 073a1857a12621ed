"""Random Markdown in which the kind of a line is unclear until the line is complete."""

import random

_STARTS = (
    *[""] * 5,
    *("- ", "- ", "* ", "+ ", "1. ", "2. ", "10) ", "> ", "> ", ">", "> - ", "> > ", "- > ", "- - ", "1. > ", "  1. "),
    *("# ", "## ", "#", "###### ", "- # ", "  ", "    ", "      ", "   - ", "\t", "- [ ] ", "- [x] ", "[^1]: "),
    *("[", "| ", "*", "**", "***", "_", "__", "`", "- ```", "> ```", "~~", "<", "\\"),
)
_PHRASES = (
    *("word", "two words", "文字", "😀", "snake_case_name", "x  ", "x\\", "!", "::", "&amp;", "a | b", "2 * 3"),
    *("**bold**", "***both***", "*it*", "_it_", "__b__", "~~gone~~", "`code`", "``a`b``", "```inline```", "~~~x~~~"),
    *("**open", "*open", "`open", "[open", "\\*esc\\*", "- x", "1. x", "#tag", "---", "===", "<br>", "<b>tag</b>"),
    *("[link](https://example.org)", "https://example.org/a_b", "[ref]", "[ref][two]", "[- x]"),
)
_BLOCKS = (
    *[""] * 4,
    *("---", "***", "* * *", "___", "- - -", "===", "--", "=", "-", "*", "+", "1.", "1)", "#", "##", "   ", "\t"),
    *("```", "```js", "~~~", "``", ">", "> ", "> ---", "Head\n===", "Head\n---", "    code\n\n    code"),
    *("| a | b |", "|---|---|", "|:-:|--:|", "|---|", "| 1 | **2** |", "a | b", "--|--", "a | b\n--|--\n1 | 2"),
    *("| a | b |\n|---|---|\n| 1 | 2 |", "> | a |\n> |---|\n> | 1 |", "1. a\n\n2. b", "- a\n\n  b"),
    *("[ref]: https://example.org", "[two]: <https://example.org> 'T'", "[ref]:"),
    *("<div>", "</div>", "<!-- c -->", "<pre>", "</pre>", "<details><summary>x</summary>"),
    *("```py\nx = 1\n\ny = 2\n```", "~~~\n# x\n~~~", "- ```\n  x\n  ```"),
)
_ENDS = ("\n", "\n", "\n", "\n\n", "\n   \n", "\r\n")


def markdown_texts(count: int, seed: int) -> list[str]:
    """`count` texts of at most ten lines or small blocks, without and with an end of the last line."""
    chance = random.Random(seed)
    return [_text(chance) for _ in range(count)]


def _text(chance: random.Random) -> str:
    lines = [_line(chance) + chance.choice(_ENDS) for _ in range(chance.randint(1, 9))]
    return "".join(lines) + (_line(chance) if chance.random() < 0.6 else "")


def _line(chance: random.Random) -> str:
    if chance.random() < 0.45:
        return chance.choice(_BLOCKS)
    return chance.choice(_STARTS) + " ".join(chance.choices(_PHRASES, k=chance.choice((1, 1, 1, 2, 3))))
