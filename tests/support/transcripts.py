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

VENDORS = Path(__file__).parents[1] / "transcripts" / "vendors"

VENDOR_STREAMS: dict[str, bytes] = {path.stem: path.read_bytes() for path in sorted(VENDORS.glob("*.sse"))}
"""Bodies of vendors' answers, by vendor and case (`groq-calls`). They are written from the vendors' public descriptions
of their streams, with texts of our own: frames, line ends, comments, order and place of every field are the vendor's.
"""
