import tomllib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.upstreams import toml_lines
from tailrace.upstreams.toml_lines import TOKEN, Path, line_numbers, line_of

TEXT = '''\
# a comment with [brackets]
title = "x"

[[rows]]
name = "one"
many = [
  "a",  # "quoted" [
  "b",
]
text = """
name = "no key"
[[rows]]
"""
inline = { "a b" = { c = 1, d = [1, 2] } }

  [rows.table]
  a.b = 1

[[rows]]
"quoted.name" = 2
[[rows.inner]]
x = 1
[[rows.inner]]
x = 2
[last]
'''

LINES: dict[Path, int] = {
    ("title",): 2,
    ("rows",): 4,
    ("rows", 0): 4,
    ("rows", 0, "name"): 5,
    ("rows", 0, "many"): 6,
    ("rows", 0, "text"): 10,
    ("rows", 0, "inline"): 14,
    ("rows", 0, "inline", "a b", "c"): 14,
    ("rows", 0, "table"): 16,
    ("rows", 0, "table", "a", "b"): 17,
    ("rows", 1): 19,
    ("rows", 1, "quoted.name"): 20,
    ("rows", 1, "inner", 0, "x"): 22,
    ("rows", 1, "inner", 1, "x"): 24,
    ("last",): 25,
}


@pytest.mark.parametrize("path", LINES, ids=str)
def test_key_is_found_in_its_line(path: Path) -> None:
    assert line_numbers(TEXT)[path] == LINES[path]


def test_every_key_of_the_document_has_a_line() -> None:
    lines = line_numbers(TEXT)

    def check(value: Any, path: Path) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            assert (*path, key) in lines
            check(inner, (*path, key))

    check(tomllib.loads(TEXT), ())


def test_place_without_a_line_of_its_own_has_that_of_what_contains_it() -> None:
    lines = line_numbers(TEXT)
    assert line_of(lines, ("rows", 1, "missing")) == 19
    assert line_of(lines, ("rows", 0, "name", 7)) == 5
    assert line_of(lines, ("nothing",)) == 1
    assert line_of(lines, ()) == 1


def test_line_ends_of_windows_are_counted_once() -> None:
    assert line_numbers("a = 1\r\n\r\nb = 2\r\n") == {("a",): 1, ("b",): 3}


@pytest.mark.parametrize("mark", ["\u0085", "\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_line(mark: str) -> None:
    text = f'# a{mark}b\nx = \'{mark}\'\ny = "{mark}"\nz = """{mark}"""\nlast = 1\n'
    assert line_numbers(text)["last",] == 5


def test_elements_and_inner_keys_have_their_own_lines() -> None:
    text = "a = [ # [\n 1.5, 1979-05-27 07:32:00,\n\n { b = [\n '''\n]''', 2], \"c\".d = 'x' }\n]\ne = 1\n"
    assert line_numbers(text) == {
        ("a",): 1, ("a", 0): 2, ("a", 1): 2, ("a", 2): 4, ("a", 2, "b"): 4, ("a", 2, "b", 0): 5, ("a", 2, "b", 1): 6,
        ("a", 2, "c"): 6, ("a", 2, "c", "d"): 6, ("e",): 8,
    }  # fmt: skip


@pytest.mark.parametrize("text", [
    'a = """"x""" # "\nb = 1', 'a = """x""""" # \'\nb = 1', "a = ''''x'''''\nb = 1", 'a = "\\"[" # ]\nb = 1',
    "a = '\\'\nb = 1", 'a = """\\"""\\""""\nb = 1', "'a]' = 1\nb = 1", "[ a . 'b]' ]\nb = 1", "a.b.c = 1.5e3\nb = 1",
])  # fmt: skip
def test_quotes_of_every_kind_end_where_they_end(text: str) -> None:
    tomllib.loads(text)
    assert 2 in [line for path, line in line_numbers(text).items() if path[-1] == "b"]


SCALARS = ["1", "-1.5", "true", "nan", "1979-05-27 07:32:00", '"a # [\\" b"', "'['", '"""\n]\n"""', "'''\"'''"]


def inline_table(values: list[str]) -> str:
    return "{" + ", ".join(f'k{number}."[" = {value}' for number, value in enumerate(values)) + "}"


VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[\n" + ",#]\n".join(parts) + "\n]"),
        st.lists(inner, max_size=3).map(inline_table),
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(VALUES, max_size=6), st.booleans())
def test_lines_are_those_of_the_keys_whatever_stands_between(values: list[str], windows: bool) -> None:
    text, expected = "", {}
    for number, value in enumerate(values):
        text += f"# a comment '\n[[rows]]\n\nkey{number} = "
        expected["rows", number, f"key{number}"] = 1 + text.count("\n")
        text += f"{value}  # end\n"
    tomllib.loads(text)
    lines = line_numbers(text.replace("\n", "\r\n") if windows else text)
    assert {place: lines[place] for place in expected} == expected
    assert line_numbers(text, list(expected)).items() <= lines.items()


def test_only_the_places_that_are_asked_for_are_kept() -> None:
    text = "[a]\nb = [1,\n2]\nc = 1\n[d]\n"
    assert line_numbers(text, [("a", "b", 1)]) == {("a",): 1, ("a", "b"): 2, ("a", "b", 1): 3}


def steps(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """The tokens that are read of an array of so many lines, and the characters that `tomllib` gets."""
    text = "x = [\n" + '  "a",  # b\n' * count + "]\n" + '"k" = 1\n'
    read = 0

    def loads(part: str) -> dict[str, Any]:
        nonlocal read
        read += len(part)
        return tomllib.loads(part)

    class Counted:
        def finditer(self, text: str) -> Any:
            nonlocal read
            for match in TOKEN.finditer(text):
                read += 1
                yield match

    monkeypatch.setattr(toml_lines, "tomllib", SimpleNamespace(loads=loads))
    monkeypatch.setattr(toml_lines, "TOKEN", Counted())
    assert line_numbers(text)["k",] == count + 3
    return read


def test_work_is_linear_in_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = steps(monkeypatch, 100), steps(monkeypatch, 1000)
    assert few > 100
    assert many < 11 * few
