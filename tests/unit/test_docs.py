"""docs/ against the code: every event and field, every error and failure, every metric, link and path.

The tables are written by hand, because the reasons in them are. The names, types and defaults in them are compared with
the code, and every example frame is decoded and encoded again.
"""

import json
import re
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from PIL import Image, ImageSequence
from pydantic import SecretStr

from browser.picture import LIMIT_BYTES, PICTURE
from support.prometheus import rules
from system.scenarios import SCENARIOS
from tailrace.errors import Gone, Misconfigured, RetryableError, TailraceError
from tailrace.events import (
    KINDS,
    Bucket,
    Entry,
    Event,
    Extra,
    FailedRequest,
    Failure,
    Finish,
    Gap,
    GenerationRecord,
    Item,
    ItemClosed,
    Options,
    Stream,
    Timings,
    Upstream,
)  # fmt: skip
from tailrace.failures import FAILURES, FORMAT_ERRORS, RESTART_REASONS
from tailrace.ids import EntryId
from tailrace.lifecycle.steps import Step
from tailrace.settings import Settings
from tailrace.stats.table import METRICS, PREFIX
from tailrace.wire import WIRE_FORMATS, native
from tailrace_frontend.http.api import create_api
from tailrace_frontend.http.negotiation import ALTERNATIVES
from tailrace_frontend.http.schemas import TailraceOptions
from tailrace_frontend.services import Services

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
RECORD = GenerationRecord("gen_yzm3t4phek6r4zwhvvqtri6evs", "open", "demo", Options(60, 60))
NESTED = (Item, Extra, Finish, Failure, Timings, Stream, Bucket, Gap, FailedRequest, Upstream)
TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
SAMPLES: dict[Any, Any] = {int: 7, float: 7.5, str: "x", bool: True}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def section(text: str, title: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """The cells of the first table."""
    lines = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert lines, "there is no table"
    return [re.split(r" \| ", line.strip("|").strip()) for line in lines[0].splitlines()[2:]]


class Field(NamedTuple):
    """The first three cells of a row."""

    name: str
    type: str
    sent: str


def type_name(hint: Any) -> str:
    """A type as the tables write it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f'`"{each}"`' for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_name, arguments))
    if origin in (list, tuple):
        return f"array of {type_name(arguments[0])}"
    if origin is dict:
        return "object"
    return f"[{hint.__name__}](#{hint.__name__.lower()})" if issubclass(hint, msgspec.Struct) else TYPES[hint]


def sample(hint: Any) -> Any:
    """A value of this type that is no default."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return arguments[-1]
    if origin in (Union, types.UnionType):
        return sample(arguments[0])
    if origin is tuple:
        return tuple(map(sample, arguments))
    if origin is list:
        return [sample(arguments[0])]
    if origin is dict:
        return {"x": 1}
    return full(hint) if issubclass(hint, msgspec.Struct) else SAMPLES[hint]


def full(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Every field set."""
    hints = get_type_hints(kind)
    return kind(**{each.name: sample(hints[each.name]) for each in msgspec.structs.fields(kind)})


def minimal(kind: type[msgspec.Struct]) -> msgspec.Struct:
    """The required fields only, numbers at 0 and texts empty."""
    hints = get_type_hints(kind)
    return kind(
        **{
            each.name: hints[each.name]() if hints[each.name] in SAMPLES else sample(hints[each.name])
            for each in msgspec.structs.fields(kind)
            if each.required
        }
    )


def received(value: msgspec.Struct) -> dict[str, Any]:
    """The struct as a client receives it: an event by the native format, a nested object as JSON."""
    if isinstance(value, Event):
        value = json.loads(native.encode_line(RECORD, Entry(EntryId(1, 1), value)))["data"]
    return dict(msgspec.to_builtins(value))


def fields_of(kind: type[msgspec.Struct]) -> set[Field]:
    """The rows that a kind's table must have."""
    always, hints = received(minimal(kind)), get_type_hints(kind)
    known = {each.name: each for each in msgspec.structs.fields(kind)}
    fields = set()
    for name, value in received(full(kind)).items():
        hint = hints.get(name, type(value))
        if name in always:
            fields.add(Field(name, type_name(hint), "always"))
        else:
            fields.add(Field(name, type_name(without_null(hint)), sent_unless(known[name])))
    return fields


def without_null(hint: Any) -> Any:
    return get_args(hint)[0] if type(None) in get_args(hint) else hint


def sent_unless(field: Any) -> str:
    """The third cell of a field that may be left out."""
    if field.default_factory is not msgspec.NODEFAULT:
        return f"unless `{json.dumps(field.default_factory())}`"
    if field.default is None or isinstance(field.default, msgspec.Struct):
        return "optional"
    return f"unless `{json.dumps(0 if field.required else field.default)}`"


def documented(title: str) -> set[Field]:
    cells = rows(section(page("events.md"), title))
    return {Field(name.strip("`"), type_, sent) for name, type_, sent, *_ in cells}


@pytest.mark.parametrize("kind", [each for each in KINDS if each is not ItemClosed], ids=lambda kind: kind.kind)
def test_event_table_has_every_field(kind: type[Event]) -> None:
    assert documented(f"`{kind.kind}`") == fields_of(kind)


@pytest.mark.parametrize("kind", NESTED, ids=lambda kind: kind.__name__)
def test_nested_object_table_has_every_field(kind: type[msgspec.Struct]) -> None:
    assert documented(f"`{kind.__name__}`") == fields_of(kind)


def test_item_closed_carries_an_item() -> None:
    assert "`data` is the whole [Item](#item)." in section(page("events.md"), "`item_closed`")
    item = Item(3, "text", text="x")
    assert received(ItemClosed(item)) == msgspec.to_builtins(item)


def test_event_pages_sections_are_the_ten_kinds_in_order() -> None:
    text = page("events.md")
    kinds = [kind.kind for kind in KINDS]
    within = text.partition("\n## The ten kinds\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### `(\w+)`$", within, flags=re.MULTILINE) == kinds
    assert re.findall(r"^\| \[`(\w+)`\]", section(text, "The ten kinds"), flags=re.MULTILINE) == kinds


def test_extra_is_carried_where_the_page_has_it() -> None:
    value = native.data(minimal(KINDS[3]), Extra(before=1))  # type: ignore[arg-type]
    assert value["extra"] == {"before": 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_example_of_an_event_is_what_the_encoder_writes(kind: type[Event]) -> None:
    (frame,) = re.findall(
        r"^```\n(id: .*?)\n```$", section(page("events.md"), f"`{kind.kind}`"), re.DOTALL | re.MULTILINE
    )
    lines = dict(line.split(": ", 1) for line in frame.splitlines())
    assert native.encode(RECORD, Entry(EntryId.parse(lines["id"]), decoded(kind, json.loads(lines["data"])))) == (
        f"{frame}\n\n".encode()
    )


def decoded(kind: type[Event], data: dict[str, Any]) -> Event:
    """An event from its `data`; fields that the kind does not have are refused by the comparison that follows."""
    if kind is ItemClosed:
        return ItemClosed(msgspec.convert(data, Item))
    return msgspec.convert({"item": 0, **data}, kind)


@pytest.mark.parametrize(
    ("title", "frame"),
    [
        ("`restarted` without an id", native.encode_restart()),
        ("`gone`", native.encode_gone("expired")),
    ],
)
def test_example_of_a_frame_outside_the_log_is_what_the_encoder_writes(title: str, frame: bytes) -> None:
    text = section(page("events.md"), title)
    assert f"```\n{frame.decode().strip()}\n```" in text
    assert {name for name, *_ in documented(title)} == {"reason"}


@pytest.mark.parametrize(("column", "name"), [(1, "native"), (2, "ndjson"), (3, "text")])
def test_formats_table_has_what_each_format_can_express(column: int, name: str) -> None:
    wire = WIRE_FORMATS[name]
    cells = {row[0]: row[column] for row in rows(section(page("events.md"), "Formats"))}
    frames = {
        "Retry hint": wire.encode_retry("", 1000),
        "[`gone`]": wire.encode_gone("deleted"),
        "[`restarted` without an id]": wire.encode_restart(),
    }
    for title, frame in frames.items():
        (cell,) = [cell for row, cell in cells.items() if row.startswith(title)]
        assert ("aborted" in cell) == (frame is None)
    assert (cells["Keep-alive after `TAILRACE_KEEPALIVE_S` of silence"] == "none") == (wire.keep_alive == b"")
    assert cells["`Accept`"] == (f"`{wire.media_type}`, alone" if name in ALTERNATIVES else "anything else")


def subclasses(of: type[TailraceError]) -> list[type[TailraceError]]:
    return [of, *(each for child in of.__subclasses__() for each in subclasses(child))]


def http_errors() -> set[tuple[str, str, str]]:
    """Status, type and code of every error that HTTP may answer."""
    abstract = {RetryableError, Misconfigured}
    return {
        (str(each.status), each.type, code or "null")
        for each in subclasses(TailraceError)
        if each not in abstract
        for code in (("deleted", "expired", "lost") if each is Gone else (each.code,))
    }


def test_error_table_has_every_http_error() -> None:
    cells = rows(section(page("errors.md"), "HTTP errors"))
    assert {(status, type_.strip("`"), code.strip("`")) for status, type_, code, *_ in cells} == http_errors()


def test_error_table_offers_a_retry_where_the_error_carries_retry_after() -> None:
    retried = {each.status for each in subclasses(RetryableError) if each is not RetryableError}
    cells = rows(section(page("errors.md"), "HTTP errors"))
    assert {int(status) for status, *_, retry in cells if retry == "after `Retry-After`"} == retried


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings_table_has_the_default_and_the_help(name: str) -> None:
    field = Settings.model_fields[name]
    (row,) = [row for row in rows(section(page("operations.md"), "Settings")) if row[0] == f"`TAILRACE_{name.upper()}`"]
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    assert row[1].split(" (")[0] == (f"`{value}`" if value != "" else "empty")
    assert row[2] == field.description


def test_pages_name_no_setting_that_does_not_exist() -> None:
    named = {(path.name, name) for path in PAGES for name in re.findall(r"TAILRACE_([A-Z_]+[A-Z])", path.read_text())}
    assert {(path, name) for path, name in named if name.lower() not in Settings.model_fields} == set()


def test_metrics_table_is_that_of_the_code() -> None:
    assert rows(section(page("operations.md"), "Metrics")) == [
        [
            f"`{PREFIX}{metric.name}`",
            metric.kind,
            " and ".join(metric.tiers),
            ", ".join(f"`{label}`" for label in metric.labels) or "–",
            f"{metric.help}.",
        ]
        for metric in METRICS
    ]


def test_alerts_table_is_that_of_the_rules() -> None:
    assert rows(section(page("operations.md"), "Alerts")) == [
        [f"`{rule['alert']}`", rule["labels"]["severity"], rule["annotations"]["description"]] for rule in rules()
    ]


def test_api_page_lists_every_route() -> None:
    paths = create_api(Services(Settings())).openapi()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    text = section(page("api.md"), "Routes")
    named = {tuple(each.split()) for each in re.findall(r"^\| `([A-Z]+ \S+)` \|", text, flags=re.MULTILINE)}
    named |= {("GET", path) for path in re.findall(r"`(/[a-z]+)`", text) if path != "/docs"}
    assert {(method, re.sub(r"\{\w+_id\}", "{id}", path)) for method, path in routes} == named


@pytest.mark.parametrize("name", TailraceOptions.model_fields)
def test_api_page_has_every_option_of_a_generation(name: str) -> None:
    assert f'"{name}": ' in section(page("api.md"), "The body of a generation")


def test_reliability_page_has_every_scenario_of_the_chaos_table() -> None:
    cells = rows(section(page("reliability.md"), "The chaos table"))
    assert [name.strip("`") for name, *_ in cells] == list(SCENARIOS)


def test_readme_rows_of_the_chaos_table_are_those_of_the_reliability_page() -> None:
    text = (ROOT / "README.md").read_text()
    shown = rows(section(text, "The promise"))
    table = rows(section(page("reliability.md"), "The chaos table"))
    assert [row for row in shown if row not in table] == []
    assert f"Three of its {len(table)} scenarios" in text
    assert len(shown) == 3


def test_readme_links_every_page_of_docs() -> None:
    text = section((ROOT / "README.md").read_text(), "Documentation")
    assert set(re.findall(r"\]\(docs/(\w+\.md)\)", text)) == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_readme_begins_with_an_animation_below_2_mb_and_describes_it() -> None:
    first_screen = (ROOT / "README.md").read_text().partition("\n## ")[0]
    (shown,) = re.findall(r"^!\[([^]]{100,})\]\(([^)]+)\)$", first_screen, flags=re.MULTILINE)
    picture = ROOT / shown[1]
    assert picture == PICTURE
    assert picture.stat().st_size < LIMIT_BYTES == 2_000_000
    with Image.open(picture) as image:
        assert (image.format, image.info["loop"]) == ("WEBP", 0)
        assert sum(1 for _ in ImageSequence.Iterator(image)) > 50


def test_contributing_lists_every_script() -> None:
    text = section((ROOT / ".github" / "CONTRIBUTING.md").read_text(), "Scripts")
    assert {cells[0].strip("`") for cells in rows(text)} == {
        f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir()
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_and_paths_of_a_page_exist(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", text)
    anchors = {link: anchors_of(path if not link else path.parent / link) for link, anchor in links if anchor}
    assert [link for link, _ in links if link and not (path.parent / link).exists()] == []
    assert [(link, anchor) for link, anchor in links if anchor and anchor not in anchors[link]] == []
    named = re.findall(r"`((?:shared|services|tests|scripts|docs|\.github)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def anchors_of(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("package", ["shared/tailrace", "services/tailrace_frontend"])
def test_architecture_page_has_the_layers_of_the_import_contract(package: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each.get("containers") == [Path(package).name]]
    text = section(page("architecture.md"), "Packages").partition(f"Inside `{package}/`, top to bottom")[2]
    named = [set(re.findall(rf"`{package}/(\w+)", first)) for first, *_ in rows(text)]
    assert named == [set(layer.split(" | ")) for layer in layers]


def test_glossary_points_to_modules_that_exist() -> None:
    cells = rows(page("glossary.md"))
    assert len(cells) >= 20
    assert [term for term, _, place in cells if not (ROOT / place.strip("`")).exists()] == []


def test_failure_table_is_the_codes_table() -> None:
    assert rows(section(page("errors.md"), "Codes of a failed generation")) == [
        [
            f"`{code}`",
            f"`{kind.status}`",
            f"`{kind.type}`",
            kind.meaning,
            "yes" if kind.retry else "no",
            str(kind.http_status),
        ]
        for code, kind in FAILURES.items()
    ]


def test_format_error_table_is_the_codes_table() -> None:
    assert rows(section(page("errors.md"), "Codes of a wire format")) == [
        [f"`{code}`", kind.meaning] for code, kind in FORMAT_ERRORS.items()
    ]


def test_restart_reason_table_is_the_codes_table() -> None:
    text = section(page("events.md"), "`restarted`").partition("| reason | meaning |")[2]
    assert rows(f"| reason | meaning |{text}") == [
        [f"`{reason}`", meaning] for reason, meaning in RESTART_REASONS.items()
    ]


def test_table_of_log_events_has_every_step_of_a_generations_life() -> None:
    text = page("operations.md").partition("  | `event` | when | also |\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  \| `(\w+)` \|", text, flags=re.MULTILINE) == list(get_args(Step))
