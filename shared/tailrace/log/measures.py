"""What the workers have measured of a generation, kept in its state with the first content of each attempt, and with
each renewal of the lease.

An end by another process than the worker (a cancel, a limit, a lost worker) has these measures, a third of a lease old
at most. The next attempt begins with them. They are removed with the end.
"""

import msgspec

from tailrace.events import Done, Stream, Timings, Upstream
from tailrace.upstreams.prices import Price

MIN_RATE_S = 0.001
"""An answer that arrived within a shorter time has no rate: it was not streamed."""


class Measures(msgspec.Struct, frozen=True, omit_defaults=True):
    """Measures so far. `first_token`, `longest_gap`: as in `Timings`. `seconds`: from the last attempt's first content
    to its last. `stream` has no `attempts` and no rate. `prices`: the upstream's, for input, output and cached input.
    `upstream`: as in `Done`, of the last content."""

    first_token: float | None = None
    longest_gap: float | None = None
    seconds: float = 0.0
    stream: Stream = Stream()
    prices: tuple[float, float, float | None] | None = None
    upstream: Upstream = Upstream()

    @property
    def price(self) -> Price | None:
        if self.prices is None:
            return None
        per_input, per_output, cached = self.prices
        return Price.model_construct(input=per_input, output=per_output, cached=cached)

    def timings(self, queue: float | None, total: float | None = None) -> Timings:
        """With the times that the log has: the wait in the queue, and the time until the end."""
        return Timings(queue, self.first_token, between_tokens_max=self.longest_gap, total=total)


def measures_from(stored: bytes | None) -> Measures:
    """The measures as they are stored; none where there are none, or where a later version wrote them."""
    try:
        return msgspec.json.decode(stored, type=Measures) if stored else Measures()
    except msgspec.MsgspecError:
        return Measures()


def with_measures(done: Done, measures: Measures, attempts: int) -> Done:
    """The end that another process than the worker writes, with what the worker had measured."""
    rate = tokens_per_second(streamed_tokens(done), measures.seconds)
    stream = msgspec.structs.replace(measures.stream, attempts=attempts, tokens_per_second=rate)
    timings = measures.timings(done.timings.queue, done.timings.total)
    return msgspec.structs.replace(done, stream=stream, timings=timings, upstream=measures.upstream)


def tokens_per_second(tokens: int | None, seconds: float) -> float | None:
    """The rate of so many tokens between the first content and the last; None where it is not known."""
    return round(tokens / seconds, 2) if tokens and seconds >= MIN_RATE_S else None


def streamed_tokens(done: Done) -> int | None:
    """The output's tokens without those of a reasoning that the upstream did not send; None where they are unknown."""
    tokens = done.output_tokens
    if tokens is None or any(item.type == "reasoning" for item in done.output):
        return tokens
    details = (done.usage or {}).get("completion_tokens_details")
    hidden = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return max(0, tokens - hidden) if type(hidden) is int and hidden > 0 else tokens
