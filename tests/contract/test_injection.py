"""No text of an upstream is taken for a frame, on the way in or on the way out.

`scripts/fuzz --target framing` runs the same with 100,000 streams.
"""

from hypothesis import given, settings

from support.injected_streams import InjectedStream, injected_streams
from support.upstream_answers import UpstreamAnswer


@given(injected_streams())
@settings(max_examples=300)
def test_formats_equal_what_the_upstream_sent_whatever_its_texts_hold(stream: InjectedStream) -> None:
    assert UpstreamAnswer(stream.chunks, stream.reads, stream.how).differences() == []
