import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from tailrace import jsoncodec
from tailrace.errors import InvalidBody, RequestTooLarge
from tailrace.settings import MIB, Settings
from tailrace_frontend.http import bodies
from tailrace_frontend.http.bodies import MAX_VALUES, count_values, parse_body, read_body
from tailrace_frontend.http.schemas import MAX_MESSAGES
from tailrace_frontend.large_requests import LARGE_BYTES

SETTINGS = Settings()
SIZE = SETTINGS.max_body_bytes
BEGIN = b'{"model":"m","messages":['
MESSAGE = b'{"role":"user","content":"?"}'


def request(*parts: bytes, length: str | None = None) -> tuple[Request, list[bytes]]:
    """A request whose body comes in parts, and the parts that were not asked for."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    headers = [(b"content-length", length.encode("latin-1"))] if length is not None else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive), left


@pytest.mark.parametrize("parts", [(b"",), (b"12345678",), (b"1234", b"", b"5678"), tuple([b"x"] * 8)])
async def test_body_up_to_the_limit_is_read_whole(parts: tuple[bytes, ...]) -> None:
    asked, _ = request(*parts)
    assert await read_body(asked, 8) == b"".join(parts)


async def test_body_that_announces_too_much_is_refused_unread() -> None:
    asked, left = request(b"x", b"y", length="9")
    with pytest.raises(RequestTooLarge):
        await read_body(asked, 8)
    assert left == [b"x", b"y"]


@pytest.mark.parametrize("length", [None, "8", "0", "", "²", "-1", "9x"])
async def test_body_beyond_the_limit_is_refused_before_it_is_complete(length: str | None) -> None:
    asked, left = request(b"1234", b"5678", b"9", b"never asked for", length=length)
    with pytest.raises(RequestTooLarge):
        await read_body(asked, 8)
    assert left == [b"never asked for"]


def wide(element: bytes, size: int = SIZE) -> bytes:
    """A body of so many bytes whose messages are this element."""
    return BEGIN + b",".join([element] * ((size - 30) // (len(element) + 1))) + b"]}"


async def refusal(body: bytes) -> str:
    with pytest.raises(InvalidBody) as raised:
        await parse_body(body, SETTINGS)
    return raised.value.message


@pytest.mark.parametrize("element", [b"{}", b"[]", b"1", b'""', b'{"role":"u"}', b"[[]]"])
async def test_body_of_millions_of_values_is_refused_in_little_memory(element: bytes) -> None:
    body = wide(element)
    tracemalloc.start()
    try:
        assert await refusal(body) == f"The request body has more than {MAX_VALUES} values."
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB + 2 * SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("element", [b"{}", b"1", b'{"role":1}', b'{"role":"u","content":7}'])
async def test_body_of_many_wrong_messages_is_refused_for_the_first_in_little_memory(element: bytes) -> None:
    body = wide(element, 70_000)
    tracemalloc.start()
    try:
        assert (await refusal(body)).startswith("messages.0")
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


async def test_body_of_many_unknown_options_is_refused_for_the_first() -> None:
    options = b",".join(b'"x%d":1' % number for number in range(40_000))
    body = BEGIN + MESSAGE + b'],"tailrace":{' + options + b"}}"
    assert await refusal(body) == "tailrace.x0: there is no such option"


async def test_body_of_too_many_messages_is_refused() -> None:
    element = b'{"role":"u"}'
    at_most = BEGIN + b",".join([element] * MAX_MESSAGES) + b"]}"
    assert len((await parse_body(at_most, SETTINGS)).request["messages"]) == MAX_MESSAGES
    assert (await refusal(at_most.replace(b"[", b"[" + element + b",", 1))).startswith("messages: ")


@pytest.mark.parametrize("filler", [b"a", b",", b"[{", b'\\"', b"\\\\", b'\\\\\\"', b"\\n", b"\\u005b", "é".encode()])
async def test_text_of_any_characters_and_any_size_is_accepted(filler: bytes) -> None:
    text = filler * ((SIZE - 100) // len(filler))
    body = BEGIN + b'{"role":"user","content":"' + text + b'"}]}'
    assert await count_values(body) < MAX_VALUES
    parsed = await parse_body(body, SETTINGS)
    assert parsed.request == jsoncodec.loads(body)


def values_of(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_of, children))


VALUES = st.recursive(
    st.none() | st.integers() | st.text('",[{]}\\aé'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('",[{]}\\a'), inner),
)


@given(VALUES)
def test_count_of_values_is_that_of_the_decoded_body_or_a_few_more(value: Any) -> None:
    """An empty list or object counts as if it held a value."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "MAX_VALUES", 1)  # nothing is taken for few
        patch.setattr(bodies, "STRINGS_PER_VALUE", 10**9)
        counted = asyncio.run(count_values(jsoncodec.dumps(value)))
    assert values_of(value) <= counted <= 2 * values_of(value)


async def test_large_body_lets_other_work_run_between_its_steps() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await parse_body(BEGIN + MESSAGE + b"]}", SETTINGS, canonical=True)
    assert turns == 0
    await parse_body(BEGIN + MESSAGE + b"]" + b" " * LARGE_BYTES + b"}", SETTINGS, canonical=True)
    assert turns >= 4
    counting.cancel()
