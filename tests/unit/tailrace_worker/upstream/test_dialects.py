"""What an attempt relies on, whatever an upstream's API: run on every row of the table."""

import pytest

from tailrace.events import NO_EXTRA, Upstream
from tailrace_worker.upstream.dialect import Translator
from tailrace_worker.upstream.dialects import DEFAULT_DIALECT, DIALECTS


@pytest.fixture(params=DIALECTS)
def translator(request: pytest.FixtureRequest) -> Translator:
    return DIALECTS[request.param].translator(first_item=0, logprobs=False)


def test_default_dialect_is_in_the_table() -> None:
    assert DEFAULT_DIALECT in DIALECTS


@pytest.mark.parametrize("payload", [b"", b"{not json", b"null", b"7", b"[]", b"\xff\xfe", b'"text"'])
def test_malformed_payload_is_skipped_and_counted(translator: Translator, payload: bytes) -> None:
    assert translator.read(payload) == []
    assert translator.malformed == 1
    assert not translator.is_complete


def test_object_without_known_fields_has_no_events(translator: Translator) -> None:
    assert translator.read(b"{}") == []
    assert translator.malformed == 0


def test_answer_without_payloads_is_not_complete(translator: Translator) -> None:
    assert translator.close() == []
    assert not translator.is_complete
    assert (translator.finish, translator.usage, translator.failure) == ([], None, None)
    assert (translator.upstream, translator.extra) == (Upstream(), NO_EXTRA)
