"""`tailrace tail ID`: print a generation's log as it grows, in any wire format.

A terminal obeys control characters, and a model's text may have any: they could retitle the window, overwrite lines, or
answer questions in the user's name. On a terminal they are therefore shown as escapes, with the characters that reverse
the direction of text. A file or a pipe gets the bytes of the format.
"""

import asyncio
import sys
from urllib.parse import urlsplit

from tailrace.errors import Misconfigured, NotFound, RedisUnavailable, Unavailable
from tailrace.ids import START, EntryId
from tailrace.log import Log
from tailrace.settings import Settings
from tailrace.wire import WIRE_FORMATS

DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
CONTROL = (*range(0x20), *range(0x7F, 0xA0))
ESCAPES = {each: f"\\x{each:02x}" for each in CONTROL if each not in b"\t\n"} | {
    each: f"\\u{each:04x}" for each in DIRECTION
}


def main(settings: Settings, *, generation_id: str, wire: str, after: str) -> None:
    """Print the log to its end.

    Raises:
        Misconfigured: the wire format is unknown.
        InvalidCursor: `after` is not an event id.
        NotFound, Gone: the generation does not exist, or is no longer stored.
        Unavailable: Redis does not respond.
    """
    asyncio.run(_tail(settings, generation_id, wire, after))


async def _tail(settings: Settings, generation_id: str, wire: str, after: str) -> None:
    if wire not in WIRE_FORMATS:
        raise Misconfigured(f"unknown wire format {wire!r}; available: {', '.join(WIRE_FORMATS)}")
    address = urlsplit(settings.redis_url)
    log = Log.connect(settings)
    try:
        record, request = (await log.state(generation_id)).record, await log.request(generation_id)
        encode = WIRE_FORMATS[wire].bind(record, request)
        is_terminal = sys.stdout.isatty()
        async for entry in log.tail(generation_id, EntryId.parse(after) if after else START):
            data = encode(entry) or b""
            sys.stdout.buffer.write(neutralized(data) if is_terminal else data)
            sys.stdout.flush()
    except NotFound:
        raise NotFound(f"generation {generation_id} does not exist") from None
    except RedisUnavailable as error:
        where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"  # without a password
        raise Unavailable(f"Redis at {where} (TAILRACE_REDIS_URL) does not respond: {error}") from None
    finally:
        await log.server.close()


def neutralized(data: bytes) -> bytes:
    """The text with its control characters as escapes; tabs and line feeds stay."""
    return data.decode(errors="replace").translate(ESCAPES).encode()
