"""Answers of upstreams as chat chunks, by name: those of vendors, and those of a real model as they were recorded."""

from pathlib import Path

from support.chat_chunks import Json
from support.chat_streams import STREAMS
from tailrace import jsoncodec

RECORDED = Path(__file__).parents[1] / "transcripts" / "upstream"


def recorded(path: Path) -> list[Json]:
    """The chunks of a recorded stream."""
    data = [line.removeprefix(b"data: ") for line in path.read_bytes().split(b"\n") if line.startswith(b"data: {")]
    return [jsoncodec.loads(each) for each in data]


RECORDINGS: dict[str, list[Json]] = {path.stem: recorded(path) for path in sorted(RECORDED.glob("*.sse"))}

UPSTREAMS: dict[str, list[Json]] = {
    name: chunks for name, chunks in (STREAMS | RECORDINGS).items() if name != "cut_surrogates"
}
"""Those that a request may carry as its script: no request has half of a surrogate pair."""
