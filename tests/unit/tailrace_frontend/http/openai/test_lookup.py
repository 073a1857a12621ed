import pytest

from support.logs import record
from tailrace.errors import Gone, NotFound, ObjectNotFound, Unavailable
from tailrace.log.state import GenerationState
from tailrace_frontend.http.openai.lookup import CHAT_COMPLETION, RESPONSE, as_object_not_found, headers_of

STATE = GenerationState(record(), "running", 1, 1, 3, 0, 9, "job")


@pytest.mark.parametrize("error", [NotFound(), Gone("deleted"), Gone("expired"), Gone("lost")])
def test_everything_that_is_not_there_is_the_same_error(error: Exception) -> None:
    with pytest.raises(ObjectNotFound) as missing, as_object_not_found(RESPONSE, "resp_x"):
        raise error
    assert missing.value.as_json() == {
        "error": {
            "message": "Response with id 'resp_x' not found.", "type": "invalid_request_error", "param": None,
            "code": None,
        }
    }  # fmt: skip


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(Unavailable), as_object_not_found(CHAT_COMPLETION, "x"):
        raise Unavailable


def test_generation_is_named_in_a_header() -> None:
    assert headers_of(STATE) == {"x-tailrace-generation": "gen_abcdefghijklmnopqrstuvwxyz"}
