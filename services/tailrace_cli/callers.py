"""`tailrace callers`: what callers use and may use; with an action, one of them is shown or changed."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from tailrace.errors import InvalidRequest
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace_cli.confirmation import confirmed
from tailrace_cli.frontend_client import ADMIN, FrontendClient, opened_frontend, rows_of
from tailrace_cli.policy_options import DEFAULT, FIELDS, option
from tailrace_cli.tables import bar, short, size, table, terminal_columns
from tailrace_cli.terminal import one_line, print_json

PATH = f"{ADMIN}/callers"
BLOCKS = f"{ADMIN}/blocks"
PAGE = 100
BAR_COLUMNS = 100
"""A narrower terminal has no room for bars."""

HEADER = ("CALLER", ">RUN", ">WAIT", ">READ", ">WEIGHT", ">TOK/MIN", ">TOK/DAY", ">TOK/MONTH", ">USD", "STATE")
NAME_WIDTH = 22
BYTES = "_bytes"
"""Ends the names of limits that are bytes."""


def main(
    settings: Settings, *, as_json: bool, action: str | None = None, name: str = "", reason: str = "",
    is_confirmed: bool = False, **policy: Any,
) -> int:  # fmt: skip
    """Print the callers, or one, or change one. Returns the exit status: 1 where a block is not confirmed.

    Raises:
        InvalidRequest: nothing is to be set, a value is out of range, or there is no terminal to ask on.
        Unavailable, TailraceError: the frontend does not answer, or refuses.
    """
    return asyncio.run(_run(settings, action, name, reason, policy, as_json=as_json, is_confirmed=is_confirmed))


async def _run(
    settings: Settings, action: str | None, name: str, reason: str, policy: Json, *, as_json: bool, is_confirmed: bool
) -> int:
    path, block = f"{PATH}/{quote(name, safe='')}", f"{BLOCKS}/{quote(name, safe='')}"
    async with opened_frontend(settings) as frontend:
        match action:
            case None:
                _print_all(await all_callers(frontend), as_json=as_json)
                return 0
            case "set":
                caller = await frontend.send("PATCH", path, changes(policy))
            case "reset":
                caller = await frontend.send("DELETE", path)
            case "block":
                caller = await frontend.get(path)
                if not is_confirmed and not await confirmed(f"{consequence(caller)} Block it?"):
                    return 1
                await frontend.send("PUT", block, {"reason": reason})
                caller["blocked"] = True
            case "unblock":
                await frontend.send("DELETE", block)
                caller = await frontend.get(path) | {"blocked": False}
            case _:
                caller = await frontend.get(path)
    if as_json:
        print_json(caller)
    else:
        print("\n".join(lines(caller, has_bars=terminal_columns() > 0)))
    return 0


async def all_callers(frontend: FrontendClient) -> list[Json]:
    """Every caller that has a key or a policy, by name.

    Raises:
        Unavailable, TailraceError: the frontend does not answer, or refuses.
    """
    callers: list[Json] = []
    has_more = True
    while has_more:
        page = await frontend.get(PATH, limit=PAGE, after=callers[-1]["name"] if callers else "")
        found = rows_of(page)
        callers += found
        has_more = bool(page.get("has_more") and found)
    return callers


def changes(policy: Json) -> Json:
    """The fields that were given; None for one that shall be as the settings have it.

    Raises:
        InvalidRequest: none was given.
    """
    given = {name: None if value == DEFAULT else value for name, value in policy.items() if value is not None}
    if not given:
        raise InvalidRequest(f"nothing is to be set; there are {', '.join(map(option, FIELDS))}")
    return given


def consequence(caller: Json) -> str:
    """What a block ends."""
    use = caller["use"]
    return (
        f"Caller {caller['name']}: its requests are refused, and its {use['readers']:,} event streams end; its "
        f"{use['running']:,} running and {use['waiting']:,} waiting generations go on."
    )


def _print_all(callers: Sequence[Json], *, as_json: bool) -> None:
    if as_json:
        print_json(callers)
    else:
        columns = terminal_columns()
        print("\n".join(table(caller_rows(callers, has_bars=columns >= BAR_COLUMNS), columns)))


def caller_rows(callers: Sequence[Json], *, has_bars: bool) -> list[Sequence[str]]:
    """A header and a row for each caller. The bars show those that run, of the most that run for any of them."""
    header = [*HEADER[:2], *(["LOAD"] if has_bars else []), *HEADER[2:]]
    most = max((_most_running(each) for each in callers), default=0)
    return [header, *(_cells(each, most, has_bars=has_bars) for each in callers)]


def _most_running(caller: Json) -> int:
    return int(caller["limits"]["max_running"] or caller["use"]["running"])


def _cells(caller: Json, most: int, *, has_bars: bool) -> list[str]:
    use, limits = caller["use"], caller["limits"]
    whole = limits["max_running"] or most
    return [
        one_line(caller["name"]),
        _of(use["running"], limits["max_running"]),
        *([bar(use["running"], whole)] if has_bars else []),
        f"{use['waiting']:,}",
        f"{use['readers']:,}",
        f"{limits['weight']:g}",
        _tokens(use["tokens_this_minute"], limits["tokens_per_minute"]),
        _tokens(use["day"]["tokens"], limits["budget_day_tokens"]),
        _tokens(use["month"]["tokens"], limits["budget_month_tokens"]),
        f"{use['month']['usd']:.2f}",
        "blocked" if caller["blocked"] else "",
    ]


def _of(count: int, limit: int | None) -> str:
    """A number, and its limit where there is one."""
    return f"{count:,}" if limit is None else f"{count:,}/{limit:,}"


def _tokens(count: int, limit: int | None) -> str:
    """The same, rounded."""
    return short(count) if limit is None else f"{short(count)}/{short(limit)}"


def lines(caller: Json, *, has_bars: bool) -> Iterator[str]:
    """One caller: what it uses, and each limit, with a mark on those that its policy has."""
    use, limits, policy = caller["use"], caller["limits"], caller["policy"]
    facts = [
        ("caller", one_line(caller["name"]) + (" (blocked)" if caller["blocked"] else "")),
        ("running", _of(use["running"], limits["max_running"]) + _bar(use["running"], limits["max_running"], has_bars)),
        ("waiting", f"{use['waiting']:,}"),
        ("readers", f"{use['readers']:,}"),
        ("tokens this minute", f"{use['tokens_this_minute']:,}"),
        *(
            (f"this {period}", f"{use[period]['tokens']:,} tokens, {use[period]['usd']:.4g} USD")
            for period in ("day", "month")
        ),
        ("reserved", f"{use['reserved']['tokens']:,} tokens, {use['reserved']['usd']:.4g} USD"),
    ]
    yield from (f"{name:{NAME_WIDTH}}{value}" for name, value in facts)
    yield ""
    yield "Limits of its policy, and of the settings"
    for name, value in limits.items():
        yield f"{name:{NAME_WIDTH}}{_limit(name, value)}{'  (policy)' if name in policy else ''}"


def _bar(count: int, limit: int | None, has_bars: bool) -> str:
    return f"  {bar(count, limit)}" if has_bars and limit else ""


def _limit(name: str, value: Any) -> str:
    if value is None:
        return "none" if name != "models" else "those of the settings"
    if isinstance(value, list):
        return one_line(", ".join(value)) or "no model"
    if name.endswith(BYTES):
        return f"{value:,} ({size(value)})"
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
