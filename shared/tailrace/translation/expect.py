"""Reading a caller's JSON by the expected type. `param` is the place, as errors name it: `input[3].content[0].text`."""

from collections.abc import Collection
from typing import Any

from tailrace.errors import InvalidValue, UnsupportedParameter
from tailrace.events import Json

NO_OPERATION: Json = {
    "allowed_callers": ["direct"],
    "caller": {"type": "direct"},
    "detail": "auto",
    "mode": "standard",
}
"""Values that ask for nothing beyond what happens without the field."""


def expect_text(value: Any, param: str) -> str:
    """
    Raises:
        InvalidValue: the value is no string.
    """
    if not isinstance(value, str):
        raise InvalidValue.at(param, "must be a string")
    return value


def expect_object(value: Any, param: str) -> Json:
    """
    Raises:
        InvalidValue: the value is no JSON object.
    """
    if not isinstance(value, dict):
        raise InvalidValue.at(param, "must be an object")
    return value


def expect_objects(value: Any, param: str) -> list[tuple[Json, str]]:
    """The objects of a list, each with its place.

    Raises:
        InvalidValue: the value is no list, or holds anything but objects.
    """
    if not isinstance(value, list):
        raise InvalidValue.at(param, "must be a list")
    return [(expect_object(each, f"{param}[{i}]"), f"{param}[{i}]") for i, each in enumerate(value)]


def refuse_others(value: Json, known: Collection[str], param: str) -> None:
    """Accept fields that are known, empty, or without effect (`NO_OPERATION`).

    Raises:
        UnsupportedParameter: there is another one.
    """
    for name, each in value.items():
        if name not in known and each and each != NO_OPERATION.get(name):
            raise UnsupportedParameter.at(f"{param}.{name[:64]}")


def others_in(value: Json, known: Collection[str]) -> Json:
    """The fields that are not known and not null, as they are."""
    return {name: each for name, each in value.items() if name not in known and each is not None}


def present(value: Json, *names: str) -> Json:
    """Those of these fields that are there and not null."""
    return {name: value[name] for name in names if value.get(name) is not None}
