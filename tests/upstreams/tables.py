"""The tables of `docs/upstreams.md`, rendered from the modules that the worker itself reads.

Each stands between two comments that name it. What surrounds them is written by hand.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from tailrace.failures import FAILURES
from tailrace.upstreams import PROFILES, Continuation, Profile
from tailrace_demo.scenarios import PREFIX, SCENARIOS
from tailrace_worker.upstream.conditions import CONDITIONS, INTERRUPTIONS, Condition, ConditionName, Interruption
from tailrace_worker.upstream.dialects import DESCRIPTIONS

BEGIN = "<!-- scripts/upstreams writes `{}` from here -->"
END = "<!-- to here -->"

RETRIED = {"yes": "yes", "no": "no", "background": "yes, except in the foreground"}


def rendered(page: str) -> str:
    """The page with its tables as they are now.

    Raises:
        ValueError: it has no place for a table.
    """
    for name, table in TABLES.items():
        begin = f"{BEGIN.format(name)}\n"
        if page.count(begin) != 1:
            raise ValueError(f"docs/upstreams.md has {page.count(begin)} places for `{name}`: {begin}")
        before, _, rest = page.partition(begin)
        _, end, after = rest.partition(END)
        page = "".join((before, begin, *(f"{line}\n" for line in table()), end, after))
    return page


def errors() -> Iterable[str]:
    return _markdown(
        ("what happens", "retried", "code", "type", "HTTP", "another upstream"),
        [_error(name, row) for name, row in CONDITIONS.items() if name != "defect"],
    )


def _error(name: ConditionName, row: Condition) -> Sequence[str]:
    kind = FAILURES[row.code]
    code, type_ = (f"its own, else `{word}`" if row.own_code else f"`{word}`" for word in (row.code, kind.type))
    another = "no" if row.is_fault_of_request else "yes"
    http = "the upstream's" if name in ("rejected", "absent") else str(kind.http_status)
    return row.upstream, RETRIED[row.retried], code, type_, http, another


def interruptions() -> Iterable[str]:
    return _markdown(
        ("what happens after some content", "`restarted.reason`", "status without a restart", "code"),
        [_interruption(row) for row in INTERRUPTIONS.values()],
    )


def _interruption(row: Interruption) -> Sequence[str]:
    code = f"its own, else `{row.code}`" if row.own_code else f"`{row.code}`"
    return row.upstream, f"`{row.restart}`" if row.restart else "never restarts", f"`{row.status}`", code


def scenarios() -> Iterable[str]:
    return _markdown(
        ("model", "the upstream", "Tailrace", "end"),
        [
            (f"`{PREFIX}{name}`{' *' if row.is_fault else ''}", row.happens, row.tailrace, _end(row.end))
            for name, row in SCENARIOS.items()
        ],
    )


def _end(end: str) -> str:
    return ", ".join(f"`{word}`" for word in end.split())


def dialects() -> Iterable[str]:
    return _markdown(
        ("`dialect`", "address", "what ends an answer", "requests of Chat Completions", "requests of Responses",
         "a lost connection is taken up"),
        [(f"`{name}`", *row) for name, row in DESCRIPTIONS.items()],
    )  # fmt: skip


def profiles() -> Iterable[str]:
    return _markdown(
        ("`profile`", "the upstream", "continues", "`stream_options`"),
        [_profile(profile) for profile in PROFILES.values()],
    )


def _profile(profile: Profile) -> Sequence[str]:
    sent = "sent" if profile.stream_options else "not sent: refused"
    return f"`{profile.name}`", profile.product, _continuation(profile.continues), sent


def _continuation(continuation: Continuation | None) -> str:
    if continuation is None:
        return "no"
    in_body = [f"`{json.dumps({field: value})[1:-1]}` in the body" for field, value in continuation.body.items()]
    in_message = [f"`{json.dumps({field: value})[1:-1]}` in it" for field, value in continuation.message.items()]
    return ", ".join([*in_body, *in_message]) or "that message alone"


def _markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    return (f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows))


TABLES: Mapping[str, Callable[[], Iterable[str]]] = {
    "errors": errors,
    "interruptions": interruptions,
    "profiles": profiles,
    "dialects": dialects,
    "scenarios": scenarios,
}
