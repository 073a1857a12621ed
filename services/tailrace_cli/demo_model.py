"""`tailrace demo-model`: a scripted, OpenAI-compatible server that needs no model; with `--list`, its scenarios."""

import asyncio
import errno
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from tailrace import jsoncodec
from tailrace.errors import Misconfigured
from tailrace.process import startup
from tailrace.process.listeners import inherited_listeners
from tailrace.settings import Settings
from tailrace_demo import serve
from tailrace_demo.scenarios import ONCE, PREFIX, SCENARIOS

DEFAULT_PORT = 8089

HEADER = ("MODEL", "WHAT HAPPENS", "WHAT TAILRACE DOES", "END")
SHARES = (4, 6)
"""Of the line: for what happens, and for what Tailrace does."""

MIN_WIDTH = 100
NOTE = (
    f"Model `{PREFIX}NAME`, in any request; `{PREFIX}NAME@200` plays it at 200 tokens a second, as the request's "
    f"`tokens_per_second` does. Names with *: of `{PREFIX}NAME{ONCE}` only the first call of a request has the fault, "
    "and the repeated one is answered."
)


def main(settings: Settings, *, list_scenarios: bool = False, as_json: bool = False) -> None:
    """Serve until SIGINT or SIGTERM; or print the scenarios, as a table or a JSON array.

    Raises:
        Misconfigured: another program has the port.
    """
    if list_scenarios or as_json:
        _print_scenarios(as_json)
        return
    if listeners := inherited_listeners():
        asyncio.run(serve(listener=listeners[0]))
        return
    port = settings.port if "port" in settings.model_fields_set else DEFAULT_PORT
    try:
        asyncio.run(serve(settings.host, port, on_listening=lambda url: startup.logger.info("listening on %s", url)))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise Misconfigured(f"port {port} of {settings.host} is taken; choose another with --port") from None


def _print_scenarios(as_json: bool) -> None:
    if as_json:
        fields = ("happens", "tailrace", "end", "is_fault")
        rows = [
            {"model": PREFIX + name} | {field: getattr(row, field) for field in fields}
            for name, row in SCENARIOS.items()
        ]
        sys.stdout.buffer.write(jsoncodec.dumps(rows) + b"\n")
        return
    columns = max(shutil.get_terminal_size().columns, MIN_WIDTH)
    cells = [
        (f"{PREFIX}{name}{'*' if row.is_fault else ''}", row.happens, row.tailrace.replace("`", ""), row.end)
        for name, row in SCENARIOS.items()
    ]
    print("\n".join(_table([HEADER, *cells], columns)))
    print("\n" + textwrap.fill(NOTE, columns - 1))


def _table(rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    """Lines of at most so many columns; a cell that is longer takes several lines."""
    first, last = max(len(row[0]) for row in rows), max(len(word) for row in rows for word in row[-1].split())
    rest = columns - 1 - first - last - 2 * (len(SHARES) + 1)
    widths = [first, *(rest * share // sum(SHARES) for share in SHARES), last]
    for row in rows:
        wrapped = [textwrap.wrap(cell, width, break_on_hyphens=False) for cell, width in zip(row, widths, strict=True)]
        for k in range(max(map(len, wrapped))):
            cells = (lines[k] if k < len(lines) else "" for lines in wrapped)
            yield "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
