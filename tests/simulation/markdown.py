"""Tables in Markdown, and how figures are written in them."""

from collections.abc import Iterable, Sequence


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Numbers are aligned by the reader's renderer; the first column is text."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return [f"| {' | '.join(row)} |" for row in (titles, rule, *rows)]


def percent(share: float) -> str:
    return f"{share:.0%}"


def gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"


def seconds_text(value: float) -> str:
    """In ms below a tenth of a second."""
    return f"{1000 * value:.0f} ms" if value < 0.0995 else f"{value:.1f} s"
