"""`docs/upstreams.md` is what `scripts/upstreams` writes."""

import pytest

from tailrace_worker.upstream.conditions import CONDITIONS, INTERRUPTIONS
from upstreams.__main__ import PAGE
from upstreams.tables import BEGIN, rendered


def test_page_is_not_stale() -> None:
    page = PAGE.read_text()
    assert rendered(page) == page, "run scripts/upstreams"


def test_page_has_every_row() -> None:
    firsts = [line.split(" | ")[0] for line in PAGE.read_text().splitlines()]
    rows = [row.upstream for name, row in CONDITIONS.items() if name != "defect"]
    rows += [row.upstream for row in INTERRUPTIONS.values()]
    assert [row for row in rows if firsts.count(f"| {row}") != 1] == []


def test_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="0 places for `errors`"):
        rendered(PAGE.read_text().replace(BEGIN.format("errors"), ""))
