"""Write the tables of `docs/upstreams.md`. `scripts/upstreams` runs this."""

from pathlib import Path

from upstreams.tables import rendered

PAGE = Path(__file__).parents[2] / "docs" / "upstreams.md"

if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
