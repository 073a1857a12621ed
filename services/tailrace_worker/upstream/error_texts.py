"""Strings of an upstream's error object: of any type, any length, with any character.

Upstreams send errors as `{"error": {"message", "type", "code", "param"}}`, as the inner object alone, in a list of one
(Google), as `{"detail": …}` (FastAPI), `{"message": …}` or a text. Neither the SDK nor an upstream checks the types of
these fields, and a `done` with another type than a string could not be read again.
"""

import re
from typing import Any

from tailrace import jsoncodec
from tailrace.events import Json
from tailrace_worker.upstream.conditions import WORDS

MAX_MESSAGE_CHARACTERS = 2000
MAX_WORD_CHARACTERS = 200
"""Of a code, a type or a parameter's name."""

MAX_DETAILS_BYTES = 16 * 1024
MAX_DETAILS_DEPTH = 32
FIELDS = frozenset({"message", "type", "code", "param"})
"""Of an error object in OpenAI's API."""

STATUS_FIELDS = frozenset({"status", "status_code"})

WORD = re.compile(r"\S+")
NAME = re.compile(r"\s*\w[\w.-]*(?: [A-Z]\w*){0,3}\s*")
"""One word, or words like the name of an HTTP status (`Internal Server Error`)."""

NO_WORD = re.compile(r"[^\w.-]+")

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but for tabs and ends of lines, and those that reverse the direction of text."""

NO_LETTER = re.compile(r"[^a-z]")

NOTHING: Json = {}


def without_controls(text: str) -> str:
    """The text without characters that a terminal obeys or that reverse its direction: clients print messages."""
    return UNPRINTABLE.sub("�", text.replace("\r\n", "\n"))


def encodable(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """The text without control characters and lone surrogates, and cut to its limit."""
    text = text[: 2 * limit]  # before all other work; of two characters (CR LF, a pair of surrogates) one may remain
    return without_controls(str(jsoncodec.replace_lone_surrogates(text)))[:limit]


def error_object(body: Any) -> Json:
    """The object with the fields of the error, in a body of any of the forms above; empty where there is none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if isinstance(body, dict):
        inner = body.get("error")
        return inner if isinstance(inner, dict) else body
    return NOTHING


def error_in(payload: Json) -> Any:
    """The error of a payload that has one, or is one: an object or a text.

    Where `error` is a text, the fields of an error may stand beside it: `{"error": "Unauthorized", "message": "…"}`.
    Then the text is the code if it is one word or known as one, else the beginning of the message.
    """
    error = payload.get("error")
    if not error:
        return {name: payload.get(name) for name in FIELDS}
    if not isinstance(error, str):
        return error
    found = fields_beside(payload)
    message = found.get("message")
    row = next((name for name, words in WORDS.items() if folded(error) in words), "failed")
    if row != "failed" or (message and NAME.fullmatch(error)):
        found.setdefault("code", NO_WORD.sub("_", error.strip()))
    elif message:
        found["message"] = f"{error}: {message}"
    return {**found, "message": found.get("message", error)}


def fields_beside(payload: Json) -> Json:
    """The fields of an error that stand beside a text in `error`. (xAI's `code` is a sentence, and no code.)"""
    named = {name: payload[name] for name in (*FIELDS, *STATUS_FIELDS) if payload.get(name)}
    return {
        name: value
        for name, value in named.items()
        if (isinstance(value, str) and (name == "message" or WORD.fullmatch(value))) or type(value) is int
    }


def message_in(body: Any) -> str:
    """The message in the body of an error, whatever its form; empty where there is none, or a page of HTML."""
    if isinstance(body, str):
        body = body.strip()
        return "" if body.startswith(("<", "{", "[")) else encodable(body)
    error = error_object(body)
    found = (error[key] for key in ("message", "detail", "error") if isinstance(error.get(key), str))
    return encodable(next(found, "").strip())


def details_of(error: Json) -> Json | None:
    """The further fields of an error object (OpenRouter's `metadata`, Groq's `failed_generation`); None where there are
    none, too many of them, or where they are nested too deeply."""
    found = {name: value for name, value in error.items() if name not in FIELDS and value not in (None, "", [], {})}
    is_kept = found and jsoncodec.is_within_depth(found, MAX_DETAILS_DEPTH)
    return found if is_kept and len(jsoncodec.dumps(found)) <= MAX_DETAILS_BYTES else None


def word_of(value: Any) -> str:
    """A string of an error object; "" where it is none."""
    return encodable(value, MAX_WORD_CHARACTERS) if isinstance(value, str) else ""


def code_of(value: Any) -> str:
    """The same for a code: some upstreams send a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value)[:MAX_WORD_CHARACTERS] if is_number and value else word_of(value)


def status_of(value: Any) -> int | None:
    """The HTTP status that a code is, as OpenRouter and vLLM send it; None where it is none."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if len(text) == 3 and text.isascii() and text.isdecimal() and "400" <= text < "600" else None


def folded(word: str) -> str:
    """A code or type in lower case, its letters alone: `InternalServerError` and `internal_server_error` are one."""
    return NO_LETTER.sub("", word.lower())
