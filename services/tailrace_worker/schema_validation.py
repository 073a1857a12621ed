"""The process that compares answers with JSON Schemas (`json_checker`): run as a file, it imports nothing of ours.

    request    2 lengths of 4 bytes, the schema (JSON; empty: there is none), the text
    reply      1 length of 4 bytes, {"parsed": …, "valid": …, "error": …}

Schema and text are a caller's and a model's. A schema of 2 KB with `$ref`s that double 28 times takes 10 s, and holds
the interpreter's lock (measured), so it is applied here: a request that takes longer than `TIME_S` ends the process,
as does one that takes more than `MEMORY_BYTES`. References to other documents are not followed, nor are files opened.

`jsonschema-rs` compares a value of 1.4 MB in 4.3 ms; `jsonschema`, in Python, takes 1.7 s, and its regular expressions
have no limit on backtracking (both measured).
"""

import json
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO

import jiter

REQUEST = struct.Struct("!II")
REPLY = struct.Struct("!I")

TIME_S = 2.0
MEMORY_BYTES = 2 * 1024 * 1024 * 1024
"""Of address space. 8 MiB of `{}` take 0.27 GB."""

MAX_CHARACTERS = 300
"""Of a message: it repeats the part of the value that does not fit."""

NICENESS = 5


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    while head := requests.read(REQUEST.size):
        schema_bytes, text_bytes = REQUEST.unpack(head)
        schema, text = requests.read(schema_bytes), requests.read(text_bytes)
        signal.setitimer(signal.ITIMER_REAL, TIME_S)  # nothing handles it: it ends the process, whatever this does
        reply = json.dumps(verdict(schema, text)).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.write(REPLY.pack(len(reply)) + reply)
        replies.flush()


def verdict(schema: bytes, text: bytes) -> dict[str, Any]:
    """Whether the text is a JSON value that fits the schema; the fields of `tailrace.events.Format`."""
    try:
        value = jiter.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        return {"parsed": False, "error": short(str(error))}
    return {"parsed": True, **comparison(json.loads(schema), value)} if schema else {"parsed": True}


def comparison(schema: Any, value: Any) -> dict[str, Any]:
    """Whether a value fits a schema: `valid` and `error`; only the error where the schema cannot be applied."""
    import jsonschema_rs  # not by the worker, which parses short texts by this module

    try:
        validator = jsonschema_rs.validator_for(schema, offline=True)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, RecursionError) as error:
        return {"error": short(f"The schema cannot be applied: {getattr(error, 'message', error)}")}
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"/{part}" for part in error.instance_path)
        return {"valid": False, "error": short(f"{place}: {error.message}" if place else error.message)}
    except (ValueError, RecursionError) as error:
        return {"error": short(f"The schema cannot be applied: {error}")}
    return {"valid": True}


def short(message: str) -> str:
    return message if len(message) <= MAX_CHARACTERS else message[: MAX_CHARACTERS - 1] + "…"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
