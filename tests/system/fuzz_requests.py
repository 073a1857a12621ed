"""Requests that no client would send, and some that one would: strategies for Hypothesis.

A `Request` has every part right but the fuzzed ones; a `Mutation` is one with wrong bytes anywhere. `{0}`, `{1}` … in a
path stand for generations that exist when it is sent, `<0>`, `<1>` … for their ids without the prefix.
"""

import json
from dataclasses import dataclass, field
from urllib.parse import quote

from hypothesis import strategies as st

KEYS = {"anna": "anna-key-1", "ben": "ben-key-22"}
POOL = 6
"""Generations that requests may name."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def encode(self, host: str, pool: list[str]) -> bytes:
        """The bytes of the request. `pool`: the ids for the placeholders."""
        target = self.target
        for i, generation_id in enumerate(pool):
            target = target.replace(f"{{{i}}}", generation_id).replace(f"<{i}>", generation_id.removeprefix("gen_"))
        headers = [("Host", host), *self.headers] if not _has(self.headers, "host") else list(self.headers)
        if (self.body or self.method in ("POST", "PUT", "PATCH")) and not _has(headers, "transfer-encoding"):
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Mutation:
    """Cuts and splices of a request's bytes: at `place` (a fraction), `removed` bytes give way to `inserted`."""

    request: Request
    splices: tuple[tuple[float, int, bytes], ...] = field(default=())

    def encode(self, host: str, pool: list[str]) -> bytes:
        data = self.request.encode(host, pool)
        for place, removed, inserted in self.splices:
            at = int(place * len(data))
            data = data[:at] + inserted + data[at + removed :]
        return data


def _has(headers: object, name: str) -> bool:
    assert isinstance(headers, tuple | list)
    return any(each.lower() == name for each, _ in headers)


TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABC-_.!#$%&'*+^`|~019", min_size=1, max_size=12)
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
VALUES = st.text(PRINTABLE, max_size=40)
METHODS = st.one_of(
    *[st.sampled_from(["GET", "GET", "GET", "POST", "DELETE", "HEAD", "OPTIONS"])] * 8,
    st.sampled_from(["PUT", "PATCH", "TRACE", "CONNECT"]),
    TOKENS,
)

# Cursors and other values that a query or a header carries

DIGITS = st.text("0123456789", max_size=17)
CURSORS = st.one_of(
    st.tuples(DIGITS, st.sampled_from("-"), DIGITS).map("".join),
    st.integers(0, 40).map("1795235902664-{}".format),
    st.integers(-5, 5).map("99999999999999{}-0".format),
    st.sampled_from(
        ["", "0-0", "0-1", "-", "1-", "-1", "$", "+", "(1-1", "1-1-1", "٣-٣", "999999999999999-999999999999999"]
    ),
    VALUES,
)
IDS = st.one_of(
    st.integers(0, POOL - 1).map("{{{}}}".format),
    st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26).map("gen_{}".format),
    st.text(max_size=70).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="")),
    st.sampled_from(["gen_", "gen_%00", "..", "%2e%2e", "%2f", "gen_" + "a" * 61, "%ff", "{0}%0a", "{0}/", "*"]),
)
NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "0.01", "-1", "61", "1e400", "nan", "inf", "-inf", "", "1_0", "0x1", "１", "true", "1" * 400]
    ),
    st.floats(0, 0.05).map(repr),
    VALUES,
)
PAIRS = st.one_of(
    st.tuples(st.just("wait"), NUMBERS.filter(lambda text: not _waits(text))),
    st.tuples(st.just("limit"), st.one_of(NUMBERS, st.integers(-2, 200).map(str))),
    st.tuples(st.just("after"), IDS),
    st.tuples(st.just("last_event_id"), CURSORS),
    st.tuples(st.just("ticket"), VALUES),
    st.tuples(TOKENS, VALUES),
)


def _waits(text: str) -> bool:
    """Whether a `?wait=` of this text is valid and long."""
    try:
        return 0.05 < float(text) <= 60
    except ValueError:
        return False


QUERIES = st.one_of(
    st.just(""),
    st.lists(PAIRS, max_size=3).map(lambda pairs: "?" + "&".join(f"{name}={quoted(value)}" for name, value in pairs)),
    st.text("abwlimtfer=&%+;0123456789[]._-~?/:@!$'()*,", max_size=30).map(
        lambda text: "?" + text.replace("wait=", "")
    ),
)


def quoted(text: str) -> str:
    return text if text.startswith("{") else quote(text, safe="")


PATHS = st.one_of(
    st.just("/v1/generations"),
    *[
        st.integers(0, POOL - 1).map(form.format)
        for form in ("/v1/generations/{{{}}}", "/v1/generations/{{{}}}/events")
    ],
    IDS.map("/v1/generations/{}".format),
    IDS.map("/v1/generations/{}/events".format),
    IDS.map("/v1/generations/{}/cancel".format),
    st.sampled_from(
        ["/", "/tailrace.js", "/page.js", "/metrics", "/healthz", "/readyz", "/openapi.json", "/docs", "*"]
    ),
    st.sampled_from(["//", "/v1", "/v1/generations/", "/V1/generations", "/v1//generations", "/docs/oauth2-redirect"]),
    st.text("abcv1/.~%:@!$&'()*+,;=[]\\^|{}<>\"-_", max_size=30).map("/{}".format),
    st.text(max_size=20).map(lambda text: "/" + quote(text.encode("utf-8", "surrogatepass"))),
)

# Headers

HEADERS = st.one_of(
    st.tuples(st.just("Accept"), st.one_of(
        st.sampled_from(["text/event-stream", "application/x-ndjson", "text/plain", "*/*", ",;,"]), VALUES)),
    st.tuples(st.just("Authorization"), st.one_of(
        st.sampled_from([f"Bearer {key}" for key in KEYS.values()] + ["Bearer", "bearer  x", "Basic Og=="]), VALUES)),
    st.tuples(st.just("Last-Event-ID"), CURSORS.map(lambda text: text.encode("latin-1", "replace").decode("latin-1"))),
    st.tuples(st.just("Idempotency-Key"), st.one_of(st.sampled_from(["k", "", "x" * 255, "x" * 256]), VALUES)),
    st.tuples(st.just("Origin"), st.one_of(st.sampled_from(["null", "http://localhost", "https://evil.test"]), VALUES)),
    st.tuples(st.just("Host"), st.one_of(st.sampled_from(["localhost", "[::1]", "[", "evil.test", "x:x"]), VALUES)),
    st.tuples(st.just("Content-Type"), st.one_of(st.sampled_from(["text/plain", "application/json;x"]), VALUES)),
    st.tuples(st.sampled_from(["If-None-Match", "If-Modified-Since", "Range", "Cookie", "Content-Encoding", "Forwarded",
                               "X-Forwarded-For", "X-Forwarded-Proto", "Upgrade", "TE", "Via", "Content-Length-",
                               "Access-Control-Request-Method", "Access-Control-Request-Headers"]),
              st.one_of(st.sampled_from(["*", "bytes=0-", "bytes=9-1", "websocket", "h2c", "GET", "gzip"]), VALUES)),
    st.tuples(st.just("Connection"), st.sampled_from(["close", "keep-alive", "Upgrade", "x"])),
    st.tuples(st.just("Expect"), st.sampled_from(["100-continue", "x"])),
    st.tuples(TOKENS, VALUES),
)  # fmt: skip

# Bodies

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
FIELDS = ["model", "messages", "temperature", "n", "max_tokens", "stop", "stream", "stream_options", "tools",
          "metadata", "tailrace", "logprobs", "user", "response_format", "seed", "script", "script_id"]  # fmt: skip
SCRIPTS = st.sampled_from([
    [{"tokens": {"count": 3}}, {"done": True}], [{"tokens": {"count": 1}}, {"reset": True}], [{"status": 500}],
    [{"raw": "data: {\n\n"}, {"eof": True}], [{"delta": {"content": "a"}}, {"hang": True}], "not a script",
])  # fmt: skip
OPTIONS = st.dictionaries(
    st.sampled_from(["on_interrupt", "on_disconnect", "deadline_s", "retention_s", "other"]),
    st.one_of(st.sampled_from(["restart", "fail", "continue", "cancel", 1, 2, 0, -1, 10**9, 10**30, 1.0, True]), JSON),
    max_size=3,
)
MESSAGES = st.one_of(
    st.just([{"role": "user", "content": "Hello?"}]),
    st.lists(
        st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls", "x"]), JSON, max_size=3), max_size=3
    ),
    JSON,
)
CHATS = st.builds(
    lambda chat, more: {**chat, **more},
    st.fixed_dictionaries({"model": st.sampled_from(["scripted", "demo", "other"]), "messages": MESSAGES},
                          optional={"script": SCRIPTS, "tailrace": OPTIONS, "stream": st.booleans()}),
    st.one_of(st.just({}), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3)),
)  # fmt: skip
BODIES = st.one_of(
    CHATS.map(json.dumps).map(str.encode),
    CHATS.map(lambda chat: json.dumps(chat, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    JSON.map(json.dumps).map(str.encode),
    st.binary(max_size=200),
    st.sampled_from([b"", b"{", b"[" * 500 + b"]" * 500, b'{"a":' * 300 + b"1" + b"}" * 300, b"\xff\xfe{}",
                     b" " * 70_000, b'{"model":"demo","model":1,"messages":[]}', b"1" * 5000, b'"\\ud800"', b"NaN"]),
)  # fmt: skip

KEYED = st.sampled_from(list(KEYS.values())).map(lambda key: (("Authorization", f"Bearer {key}"),))
MORE_HEADERS = st.one_of(st.just(()), st.just(()), st.lists(HEADERS, max_size=4).map(tuple))
ALL_HEADERS = st.tuples(st.one_of(KEYED, KEYED, st.just(())), MORE_HEADERS).map(lambda parts: parts[0] + parts[1])

REQUESTS = st.builds(
    Request,
    METHODS,
    st.tuples(PATHS, QUERIES).map("".join),
    ALL_HEADERS,
    st.one_of(st.just(b""), st.just(b""), BODIES),
)
CREATES = st.builds(Request, st.just("POST"), st.just("/v1/generations"), ALL_HEADERS, BODIES)

# Requests that are right, but for one part

OWN = st.integers(0, POOL - 1).map("/v1/generations/{{{}}}".format)
CURSOR_HEADER = st.one_of(
    st.just(()), CURSORS.map(lambda text: (("Last-Event-ID", text.encode("latin-1", "replace").decode("latin-1")),))
)
FORMAT = st.sampled_from([(), (("Accept", "application/x-ndjson"),), (("Accept", "text/plain"),)])
READS = st.builds(
    Request,
    st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    st.one_of(
        st.tuples(OWN, QUERIES).map("".join),
        st.tuples(OWN, st.just("/events"), QUERIES).map("".join),
        QUERIES.map("/v1/generations{}".format),
    ),
    st.tuples(KEYED, FORMAT, CURSOR_HEADER).map(lambda parts: parts[0] + parts[1] + parts[2]),
)
ENDS = st.one_of(
    st.builds(Request, st.just("POST"), OWN.map("{}/cancel".format), KEYED),
    st.builds(Request, st.just("DELETE"), OWN, KEYED),
)
CHAT_CREATES = st.builds(
    Request, st.just("POST"), st.just("/v1/generations"),
    st.tuples(KEYED, FORMAT).map(lambda parts: parts[0] + parts[1]),
    st.builds(lambda script, more: json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "?"}],
                                               "script": script, **more}).encode(),
              SCRIPTS, st.fixed_dictionaries({}, optional={"tailrace": OPTIONS, "n": JSON, "stream_options": JSON})),
)  # fmt: skip

FRAGMENTS = [b"\r\n", b"\n", b"\r", b"\x00", b"\r\n\r\n", b"Content-Length: 5\r\n", b":", b"0\r\n\r\n", b"HTTP/1.0",
             b"\t", b"Transfer-Encoding: chunked\r\n"]  # fmt: skip
SPLICES = st.tuples(st.floats(0, 1), st.integers(0, 30), st.one_of(st.binary(max_size=20), st.sampled_from(FRAGMENTS)))
MUTATIONS = st.builds(Mutation, st.one_of(REQUESTS, CREATES), st.lists(SPLICES, min_size=1, max_size=3).map(tuple))
