import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_worker.upstream.sse import EventTooLarge, Splitter

ENDS = (b"\n", b"\r\n", b"\r")


def payloads(*reads: bytes, max_event: int = 1000) -> list[bytes]:
    splitter = Splitter(max_event)
    split = [payload for read in reads for payload in splitter.feed(read)]
    return split + splitter.close()


def in_bytes(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream of one kind of line end, or of all of them, and the payloads it holds."""
    ends = draw(st.sampled_from([*((end,) for end in ENDS), ENDS]))
    value = st.binary(max_size=12).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
    stream, expected = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), []

    def line(data: bytes) -> bytes:
        end: bytes = draw(st.sampled_from(ends))
        return data + end

    for _ in range(draw(st.integers(0, 6))):
        values = draw(st.lists(value, max_size=3))
        for each in values:
            space = b" " if each.startswith(b" ") else draw(st.sampled_from([b"", b" "]))
            stream += line(draw(st.sampled_from([b": ping", b"event: x", b"id: 7", b"retry: 5", b"dat", b" data: 1"])))
            stream += line(b"data:" + space + each)
        stream += line(b"")
        if payload := b"\n".join(values):
            expected.append(payload)
    # A CR before an LF would be one line end; a blank line that vanishes so would join two events.
    return stream, expected if ends != ENDS else payloads(*in_bytes(stream))


@given(streams(), st.data())
def test_payloads_are_the_same_however_the_bytes_are_cut(
    stream_and_payloads: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    stream, expected = stream_and_payloads
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reads = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert payloads(stream) == payloads(*reads) == payloads(*in_bytes(stream)) == expected


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise(stream: bytes) -> None:
    assert payloads(stream) == payloads(*in_bytes(stream))


@pytest.mark.parametrize("end", ENDS)
def test_lines_end_with_each_line_end_of_the_standard(end: bytes) -> None:
    stream = end.join(
        [b": hello", b'data: {"a":1}', b"", b"event: x", b"data:2", b"", b"data: 3", b"data: 4", b"", b""]
    )
    for reads in ([stream], in_bytes(stream)):
        assert payloads(*reads) == [b'{"a":1}', b"2", b"3\n4"]


def test_event_is_returned_with_the_read_that_ends_it() -> None:
    splitter = Splitter(100)
    assert splitter.feed(b"data: 1\n\ndata: 2\n") == [b"1"]
    assert splitter.feed(b"\ndata: 3\n\n") == [b"2", b"3"]


def test_lone_cr_ends_an_event_at_once_and_a_following_lf_is_no_line() -> None:
    splitter = Splitter(100)
    assert splitter.feed(b"data: 1\r\r") == [b"1"]
    assert splitter.feed(b"\ndata: 2\r\n") == []
    assert splitter.feed(b"data: 3\r\n\r") == [b"2\n3"]
    assert splitter.feed(b"\n") == []
    assert splitter.feed(b"data: 4\n\n") == [b"4"]


def test_empty_read_between_cr_and_lf_makes_no_second_line_of_them() -> None:
    splitter = Splitter(100)
    assert splitter.feed(b"data: 1\r") == []
    assert splitter.feed(b"") == []
    assert splitter.feed(b"\ndata: 2\n\n") == [b"1\n2"]


def test_lines_end_with_nothing_but_cr_and_lf() -> None:
    text = '{"text":"a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x00"}'.encode() + b"\xff\xfe"
    for reads in ([b"data: " + text + b"\n\n"], in_bytes(b"data: " + text + b"\n\n")):
        assert payloads(*reads) == [text]


def test_bom_is_skipped_only_at_the_start() -> None:
    bom = b"\xef\xbb\xbf"
    for reads in ([bom + b"data: 1\n\n"], [bom[:1], bom[1:2], bom[2:], b"data: 1\n\n"]):
        assert payloads(*reads) == [b"1"]
    assert payloads(b"data: 1\n\n", bom + b"data: 2\n\n") == [b"1"]
    assert payloads(b"data: 1\n\n" + bom + b"data: 2\n\n") == [b"1"]


def test_payloads_do_not_include_one_space_after_the_colon() -> None:
    assert payloads(b"data:1\n\n", b"data: 2\n\n", b"data:  3\n\n") == [b"1", b"2", b" 3"]


def test_events_without_data_have_no_payload() -> None:
    assert payloads(b": ping\n\n", b"event: ping\ndata:\n\n", b"data: \n\n", b"data\n\n", b"retry: 1\n\n\n\n") == []


def test_fields_whose_name_only_resembles_data_are_skipped() -> None:
    assert payloads(b"database: 1\n\n", b"dat: 1\n\n", b" data: 1\n\n", b"Data: 1\n\n") == []


@pytest.mark.parametrize("tail", [b"data: 1", b"data: 1\n", b"data: 1\r", b"data: 1\r\n", b"\xef\xbb\xbfdata: 1"])
def test_stream_without_its_last_blank_line_still_has_its_last_event(tail: bytes) -> None:
    assert payloads(tail) == [b"1"]


@pytest.mark.parametrize("nothing", [b"", b"\xef\xbb", b"\n", b"\r", b": x"])
def test_empty_stream_has_no_payloads(nothing: bytes) -> None:
    assert payloads(nothing) == []


@pytest.mark.parametrize("stream", [
    b"data: " + b"x" * 101 + b"\n\n",
    b"data:" + b"x" * 101 + b"\n\n",
    b"data: " + b"x" * 50 + b"\ndata: " + b"x" * 51 + b"\n\n",
    b": " + b"x" * 200 + b"\n\n",
])  # fmt: skip
def test_event_beyond_the_limit_is_refused_however_it_is_cut(stream: bytes) -> None:
    for reads in ([stream], in_bytes(stream)):
        with pytest.raises(EventTooLarge, match="more than 100 bytes"):
            payloads(*reads, max_event=100)


def test_endless_line_is_refused_before_it_is_buffered() -> None:
    splitter = Splitter(100)
    for _ in range(10):
        assert splitter.feed(b"x" * 10) == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x" * 10)


def test_limit_is_for_one_event_and_not_for_one_read() -> None:
    fits = b"data: " + b"x" * 100 + b"\n\n"
    assert payloads(fits * 50, max_event=100) == [b"x" * 100] * 50
    assert payloads(*in_bytes(fits * 3), max_event=100) == [b"x" * 100] * 3


def test_error_field_is_data() -> None:
    stream = b'data: {}\n\nerror: {"code":400}\n\nerror:{}\n\nerrors: 1\n\nerror\n\ndata: [DONE]\n\n'
    assert payloads(stream) == payloads(*in_bytes(stream)) == [b"{}", b'{"code":400}', b"{}", b"[DONE]"]
