"""Tailrace's JSON encoder and decoders.

The encoder escapes U+2028, U+2029 and U+0085: clients that split lines by Unicode's rules (Python's `splitlines`) would
cut NDJSON and SSE there. The decoder for upstream payloads is tolerant: input that the strict parser rejects (lone
surrogates, NaN) is parsed by the standard library, because one malformed token must not end an answer.
"""

import json
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def dumps(value: Any) -> bytes:
    """Encode a value as compact UTF-8 JSON without any character that a client could take for a line break.

    Raises:
        UnicodeEncodeError: a string contains a lone surrogate. Apply `replace_lone_surrogates` to untrusted text first.
    """
    data = _encoder.encode(value)
    if data.isascii():  # (8 MiB: 1 ms instead of 20)
        return data
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in data:
        data = data.replace(b"\xc2\x85", b"\\u0085")
    return data


def loads(data: bytes | bytearray | str) -> Any:
    """Parse JSON strictly.

    Raises:
        ValueError: the data is not JSON, is nested too deeply, or contains a number out of range.
    """
    try:
        return _decoder.decode(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def loads_tolerant(data: bytes) -> Any:
    """Parse JSON and accept the defects that upstreams send: lone surrogates, NaN and invalid UTF-8.

    Raises:
        ValueError: the data is not JSON, or is nested too deeply.
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
    """The same value with U+FFFD in place of every lone surrogate, so that it can be encoded."""
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [replace_lone_surrogates(each) for each in value]
        case dict():
            return {replace_lone_surrogates(key): replace_lone_surrogates(each) for key, each in value.items()}
    return value


def is_within_depth(value: Any, limit: int) -> bool:
    """Whether no more than `limit` arrays and objects of a JSON value are nested. The work is linear in the value, and
    is not recursive."""
    level = [value]
    for depth in range(limit + 1):
        children: list[Any] = []
        for each in level:
            if isinstance(each, (dict, list)):
                if depth == limit:
                    return False
                children.extend(each.values() if isinstance(each, dict) else each)
        if not children:
            return True
        level = children
    return True


def canonical(value: Any) -> bytes:
    """A canonical encoding: equal JSON values give equal bytes, whatever the order of their keys."""
    return msgspec.json.encode(value, order="sorted")
