from typing import Any

import pytest

from tailrace_frontend.tags import tags_of


@pytest.mark.parametrize(
    ("metadata", "tags"),
    [
        ({"team": "blue", "n": 7, "is_test": True, "x": 0.5}, ["team=blue", "n=7", "is_test=true", "x=0.5"]),
        ({"a": None, "b": [1], "c": {"d": 1}}, []),
        ({"a": "one\ntwo\u202e"}, ["a=one two "]),
        ({"a": "x" * 500}, ["a=" + "x" * 126]),
        ({str(n): "x" for n in range(20)}, [f"{n}=x" for n in range(16)]),
        (None, []),
        ("team", []),
        ([1], []),
    ],
)
def test_tags_are_the_metadata_as_names_and_values(metadata: Any, tags: list[str]) -> None:
    assert tags_of({"model": "demo", "metadata": metadata}) == tags
    assert tags_of({"model": "demo"}) == []
