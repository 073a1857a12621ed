"""JSON as Tailrace writes and reads it.

Writing escapes U+2028, U+2029 and U+0085: readers that split lines by Unicode's rules (Python's `splitlines`) cut
NDJSON and SSE there. Reading an upstream is tolerant: where the strict parser refuses (lone surrogates, NaN), the
standard library's takes over, because one odd token must not end an answer.
"""

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON, safe in one line of any reader.

    Raises:
        UnicodeEncodeError: a string holds half a surrogate pair; `replace_lone_surrogates` text that comes from outside
        first.
    """
    data = _encoder.encode(value)
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in data:
        data = data.replace(b"\xc2\x85", b"\\u0085")
    return data


def loads(data: bytes | str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or holds a number out of range.
    """
    try:
        return _decoder.decode(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def loads_tolerant(data: bytes) -> Any:
    """Parse JSON as upstreams send it: lone surrogates, NaN and invalid UTF-8 included.

    Raises:
        ValueError: it is not JSON even so.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def replace_lone_surrogates(value: Any) -> Any:
    """The same value with every orphaned half of a surrogate pair as U+FFFD, so that it can be written."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [replace_lone_surrogates(each) for each in value]
        case dict():
            return {replace_lone_surrogates(key): replace_lone_surrogates(each) for key, each in value.items()}
    return value


def canonical(body: bytes) -> bytes:
    """The same bytes for the same JSON value, however it was spaced and ordered.

    Raises:
        ValueError: it is not JSON.
    """
    return msgspec.json.encode(loads(body), order="sorted")
