import inspect
import re
from typing import Any

import pytest

from tailrace import errors
from tailrace.errors import (
    LONGEST_RETRY_S,
    Gone,
    HostRefused,
    MethodNotAllowed,
    RateLimited,
    TailraceError,
    Unauthenticated,
    Unavailable,
)

CLASSES = [
    each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, TailraceError)
]  # in order of definition
ROW = re.compile(
    r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?:(?P<status>\d{3})  )? *(?P<label>\S.*)$", re.MULTILINE
)


def documented_rows() -> list[dict[str, Any]]:
    """The rows of the tree in the docstring. A row's parent follows from its depth."""
    assert errors.__doc__ is not None
    path: list[str] = []
    rows = []
    for row in ROW.finditer(errors.__doc__):
        depth = len(row["branch"]) // 4
        path[depth:] = [row["name"]]
        rows.append({**row.groupdict(), "parent": path[depth - 1] if depth else "Exception"})
    return rows


def test_documented_tree_matches_the_classes() -> None:
    assert [(row["name"], row["parent"]) for row in documented_rows()] == [
        (each.__name__, each.__mro__[1].__name__) for each in CLASSES
    ]


@pytest.mark.parametrize("row", documented_rows(), ids=lambda row: str(row["name"]))
def test_status_and_code_match_the_documented_tree(row: dict[str, Any]) -> None:
    kind: type[TailraceError] = getattr(errors, row["name"])
    if row["status"] is not None:
        assert kind.status == int(row["status"])
    if kind.code is not None:
        assert row["label"] == kind.code
    elif kind is Gone:
        assert row["label"].split(" | ") == ["deleted", "expired", "lost"]
    elif row["status"] is not None:
        assert row["label"] == kind.type
    else:
        assert row["label"] in ("carries Retry-After", "printed on the terminal at start, never sent over HTTP")


@pytest.mark.parametrize("kind", [each for each in CLASSES if each is not Gone], ids=lambda kind: str(kind.__name__))
def test_errors_share_one_json_shape(kind: type[TailraceError]) -> None:
    error = kind()
    assert error.as_json() == {"error": {"message": kind.__doc__, "type": kind.type, "param": None, "code": kind.code}}
    assert str(error) == error.message == kind.__doc__
    assert kind("In other words.").as_json()["error"]["message"] == "In other words."


def test_json_shape_has_four_keys_in_order() -> None:
    error = errors.InvalidBody("messages: Field required", param="messages")
    assert list(error.as_json()["error"].items()) == [
        ("message", "messages: Field required"),
        ("type", "invalid_request_error"),
        ("param", "messages"),
        ("code", "invalid_body"),
    ]


@pytest.mark.parametrize("reason", ["deleted", "expired", "lost"])
def test_gone_carries_its_reason(reason: str) -> None:
    assert Gone(reason).as_json()["error"]["code"] == reason
    assert reason in Gone(reason).message
    assert Gone(reason).status == 410


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (TailraceError(), {}),
        (HostRefused(), {}),
        (Unauthenticated(), {"WWW-Authenticate": "Bearer"}),
        (MethodNotAllowed(allow="GET, POST"), {"Allow": "GET, POST"}),
        (MethodNotAllowed(), {}),
        (RateLimited(retry_after=7), {"Retry-After": "7"}),
        (RateLimited(retry_after=LONGEST_RETRY_S + 1), {"Retry-After": "60"}),
        (Unavailable(), {"Retry-After": "1"}),
    ],
)
def test_headers_of_an_error(error: TailraceError, headers: dict[str, str]) -> None:
    assert error.headers() == headers


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
def test_server_error_type_is_used_for_5xx_only(kind: type[TailraceError]) -> None:
    assert (kind.type == "server_error") == (kind.status >= 500)
