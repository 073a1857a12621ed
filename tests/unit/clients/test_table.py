"""The table of clients: the lines of its programs, its page, and what the upstream's record shows."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clients import report
from clients.__main__ import audited, missing, uncalled
from clients.cases import CASES, case_of
from clients.cells.__main__ import MODULES, cell
from clients.cells.answer import Answer
from clients.cells.names import client_of, model_of
from clients.table import PYTHON_CLIENTS, Cell, Client
from clients.upstream import problems, scripted
from tailrace_demo.calls import Calls
from tailrace_demo.script import parse_script

PAGE = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
NODE = Path(__file__).parents[2] / "clients" / "node" / "package.json"
LINE = {"client": "openai-node chat create", "version": "7.55.0", "case": "text", "ok": True, "detail": ""}


def page_rows(package: str) -> dict[str, list[str]]:
    """The cells of a package's rows on the page, by the client's name without its package."""
    part = re.search(rf"^### {re.escape(package)} \S+\n\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    assert part, f"docs/clients.md lacks {package}: run scripts/clients"
    cells = [line.strip("|").split(" | ") for line in part[1].splitlines()[2:]]
    return {label.strip(): [cell.strip() for cell in rest] for label, *rest in cells}


@pytest.mark.parametrize("client", PYTHON_CLIENTS, ids=lambda client: client.name)
def test_page_lists_the_client_in_every_case(client: Client) -> None:
    cells = page_rows(client.package)[f"{client.api} {client.call}"]
    assert len(cells) == len(CASES)
    assert [name for name, cell in zip(CASES, cells, strict=True) if cell.startswith("–")] == [
        name for name in CASES if name in client.leaves_out
    ]


@pytest.mark.skipif(not NODE.exists(), reason="there is no program for Node")
def test_page_lists_every_client_of_node() -> None:
    for package in json.loads(NODE.read_text())["dependencies"]:
        name = {"openai": "openai-node"}.get(package, package)
        assert f"### {name} " in PAGE or name in ("ai", "react", "react-dom", "zod"), name


@pytest.mark.parametrize("case", CASES)
def test_page_lists_the_case_and_what_it_checks(case: str) -> None:
    assert f"\n| {case} | {CASES[case].checks} |\n" in PAGE


def test_page_has_no_cell_that_failed_or_was_not_run() -> None:
    generated = PAGE.partition(report.BEGIN)[2]
    assert report.SIGNS[False] not in generated
    assert report.NOT_RUN not in generated


def test_reasons_of_the_table_are_for_cases_that_exist() -> None:
    assert {case for client in PYTHON_CLIENTS for case in client.leaves_out} <= CASES.keys()
    assert len({client.name for client in PYTHON_CLIENTS}) == len(PYTHON_CLIENTS)


@pytest.mark.parametrize("case", CASES)
def test_script_of_a_case_is_one_that_the_upstream_plays(case: str) -> None:
    assert parse_script(CASES[case].script)


def test_model_names_its_case() -> None:
    assert case_of("cancel.openai-node-chat-create") == case_of("cancel") == "cancel"
    assert case_of("demo") is None
    assert case_of(model_of(PYTHON_CLIENTS[0].name, "usage")) == "usage"


def test_model_becomes_a_script_and_keeps_the_rest_of_the_body() -> None:
    script = [{"done": True}]
    body = json.loads(scripted(b'{"model": "text.x", "stream": true}', {"text": script}))
    assert body == {"model": "scripted", "stream": True, "script": script, "script_id": "text.x"}
    for other in (b'{"model": "demo"}', b'{"model": 7}', b"[]"):
        assert scripted(other, {"text": script}) == other


def test_line_of_a_program_is_a_cell() -> None:
    cell = Cell.parse(json.dumps(LINE))
    assert (cell.package, cell.case, cell.ok) == ("openai-node", "text", True)
    for wrong in (json.dumps(LINE | {"ok": "yes"}), '{"client": "openai-node chat create"}', "[]"):
        with pytest.raises(ValueError, match=r"not a cell|is neither"):
            Cell.parse(wrong)


def test_cell_that_was_not_reported_has_failed() -> None:
    found = missing([Cell("openai-node chat create", "7.55.0", "text", True)])
    assert {cell.case for cell in found if cell.client == "openai-node chat create"} == CASES.keys() - {"text"}
    assert len(found) == (len(PYTHON_CLIENTS) + 1) * len(CASES) - 1
    assert {cell.ok for cell in found} == {False}


@pytest.mark.parametrize(
    ("model", "calls", "problem"),
    [
        ("cancel.x", Calls(started=1, closed_by_client=1), ""),
        ("cancel.x", Calls(started=1), "was not closed"),
        ("text.x", Calls(started=1, closed_by_client=1), "did not finish"),
        ("text.x", Calls(started=2, finished=2), "called 2 times"),
        ("resume.x", Calls(started=2, finished=2), "called 2 times"),
        ("structured", Calls(started=1, finished=1, last_request={"response_format": None}), "no JSON schema"),
        ("tools", Calls(started=1, finished=1, last_request={}), "no tools"),
        ("demo", Calls(started=1), ""),
    ],
)
def test_record_of_the_upstream_shows_a_problem(model: str, calls: Calls, problem: str) -> None:
    found = problems({model: calls})
    assert found.keys() == ({model} if problem else set())
    assert problem in found.get(model, "")


def test_model_is_found_for_every_cell_of_ours() -> None:
    names = [client.name for client in PYTHON_CLIENTS]
    assert [client_of(model_of(name, "text"), names) for name in names] == names
    assert client_of("text.openai-python-chat-create-stream-1f", names) == "openai-python chat create(stream)"
    assert client_of("text", names) is None


def test_audit_fails_the_cell_whose_upstream_record_is_wrong() -> None:
    first, second = "openai-python chat create", "openai-node chat.completions.create"
    cells = [Cell(client, "1", case, True) for client in (first, second) for case in ("cancel", "text")]
    checked = audited(cells, {f"{model_of(second, 'cancel')}-1f": "still open"})
    assert [(cell.client, cell.case, cell.detail) for cell in checked if not cell.ok] == [
        (second, "cancel", "still open")
    ]


def test_audit_fails_every_cell_of_a_case_whose_model_fits_no_client() -> None:
    cells = [Cell("openai-node chat create", "1", case, ok) for case, ok in (("cancel", True), ("text", True))]
    left_out = Cell("litellm responses responses(stream)", "1", "cancel", None, "There is no such call.")
    checked = audited([*cells, left_out], {"cancel": "still open"})
    assert [cell.ok for cell in checked] == [False, True, None]


def test_audit_fails_the_cell_that_passed_without_a_call_of_the_upstream() -> None:
    first, second = "openai-python chat create", "openai-node chat.completions.create"
    cells = [Cell(client, "1", case, True) for client in (first, second) for case in ("cancel", "text")]
    left_out = Cell(first, "1", "usage", None, "There is no usage.")
    checked = uncalled([*cells, left_out], [model_of(first, "cancel"), f"{model_of(second, 'cancel')}-1f", "text"])
    assert [cell.ok for cell in checked] == [True, True, True, True, None]
    checked = uncalled(cells, [model_of(first, "cancel"), "text"])
    assert [(cell.client, cell.case) for cell in checked if not cell.ok] == [(second, "cancel")]


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (Answer(), None, "The package drops it."),
        (Answer(refusal="I cannot."), False, "refusal is 'I cannot.', expected ''"),
        (Answer(text="I cannot."), False, "text is 'I cannot.', expected ''"),
    ],
)
async def test_cell_of_a_lost_field_fails_unless_the_field_alone_is_lost(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, ok: bool | None, detail: str
) -> None:
    async def ask(*_: object) -> Answer:
        return answer

    module = ModuleType("clients.cells.lossy")
    monkeypatch.setattr(module, "ask", ask, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(MODULES, "pytest", "lossy")
    found = await cell(Client("pytest", "chat", "create", {"refusal": "The package drops it."}), "", "refusal")
    assert (found.ok, found.detail) == (ok, detail)


def test_report_has_a_table_for_each_package_with_notes() -> None:
    cells = [
        Cell("a chat create", "1.0", "text", True),
        Cell("b chat create", "2.0", "text", False, "text is ''"),
        Cell("a responses create", "1.0", "text", None, "There is no such call."),
        Cell("b responses create", "2.0", "text", None, "There is no such call."),
    ]
    text = report.markdown(cells, {"Python": "3.11.7"})
    assert text.startswith("1 of 2 cells, on Python 3.11.7.\n")
    assert re.findall(r"^### (.*)$", text, flags=re.MULTILINE) == ["a 1.0", "b 2.0"]
    assert "| chat create | ✓ | not run |" in text
    assert "| chat create | ✗ | not run |" in text
    assert text.count("–<sup>1</sup>") == 2
    assert text.endswith("\n\n1. There is no such call.")


def test_report_replaces_what_is_between_its_marks() -> None:
    page = f"# A\n\n{report.BEGIN}\nold\n{report.END}\n\nEnd.\n"
    once = report.replaced(page, "new")
    assert once == f"# A\n\n{report.BEGIN}\n\nnew\n\n{report.END}\n\nEnd.\n"
    assert report.replaced(once, "new") == once
    with pytest.raises(ValueError, match="has no"):
        report.replaced("# A\n", "new")
