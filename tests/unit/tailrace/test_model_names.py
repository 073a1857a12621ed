from typing import Any

import pytest

from tailrace.model_names import MAX_LISTED, MAX_NAME, chat_models_first, names_in


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"data": [{"id": "a"}, {"id": "b", "owned_by": "x"}]}, ["a", "b"]),
        ([{"id": "a"}, "b"], ["a", "b"]),
        ({"data": None}, []),
        ({"data": {"id": "a"}}, []),
        ({"data": [{"id": 1}, {"id": ""}, None, [], {"name": "a"}, {"id": "\ud800"}]}, ["�"]),
        (None, []),
        ("a", []),
    ],
)
def test_names_are_read_from_every_form_of_the_list(listed: Any, names: list[str]) -> None:
    assert names_in(listed) == names


def test_names_that_no_request_can_have_are_left_out_and_their_number_is_bounded() -> None:
    listed = [{"id": "x" * (MAX_NAME + 1)}, {"id": "y" * MAX_NAME}, *({"id": f"m{i}"} for i in range(MAX_LISTED))]
    names = names_in(listed)
    assert len(names) == MAX_LISTED
    assert names[:2] == ["y" * MAX_NAME, "m0"]


def test_names_of_models_that_cannot_chat_come_last() -> None:
    others = ["text-embedding-3-small", "whisper-1", "tts-1", "dall-e-3", "sora-2", "gpt-image-1", "bge-m3"]
    chat = ["gpt-4o-mini", "llama-3-8b-instruct", "qwen3:8b", "absorab", "o3"]
    assert chat_models_first([*others, *chat]) == [*chat, *others]
