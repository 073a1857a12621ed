"""What the installed openai package knows: the types of its unions, by name."""

from typing import Any, get_args, get_type_hints


def types_in(union: Any) -> set[str]:
    """The values of `type` that the members of a union may have."""
    return {name for member in get_args(union) for name in _literals(get_type_hints(member).get("type"))}


def _literals(hint: Any) -> list[str]:
    return [hint] if isinstance(hint, str) else [name for each in get_args(hint) for name in _literals(each)]
