"""A server that lacks something: a proxy in front of a real one that reads each command, and answers some itself.

A command is passed on when the reply to the one before has been passed back, so that replies keep their order. Messages
of subscriptions come at any time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import hiredis

from tailrace import scripts
from tailrace.process.tasks import cancel_and_wait

Refusal = Callable[[list[bytes]], str]
"""Of a command: the error that is its reply; empty: it is passed on."""


def without_commands(*names: str) -> Refusal:
    """Commands that the server does not have, alone or in a script."""

    def refusal(command: list[bytes]) -> str:
        name = command[0].decode().upper()
        if name in names:
            return f"ERR unknown command '{name.lower()}', with args beginning with: "
        if any(f"'{each}'" in _text(command) for each in names):
            return "ERR Unknown Redis command called from script script: 0123, on @user_script:12."
        return ""

    return refusal


def without_flags(command: list[bytes]) -> str:
    """Scripts that begin with a line of flags do not compile."""
    if not _text(command).startswith("#!"):
        return ""
    return "ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'"


def without_flag(command: list[bytes]) -> str:
    """`#!lua` is known, and `allow-oom` is not."""
    return "ERR Unexpected flag in script shebang: allow-oom" if "allow-oom" in _text(command) else ""


def failing_in(script: scripts.Script, message: str) -> Refusal:
    """One script fails."""
    return lambda command: message if _text(command) == script.text else ""


def _text(command: list[bytes]) -> str:
    """Of the script that a command runs."""
    match command[0].upper():
        case b"EVAL":
            return command[1].decode()
        case b"EVALSHA":
            return scripts.TEXTS.get(command[1].decode(), "")
    return ""


class RefusingServer:
    """`refusal` may be changed at any time. `deaf`: no connection receives what is published. `seen`: the names of the
    commands that came."""

    def __init__(self, target: int, refusal: Refusal) -> None:
        self.port = 0
        self.refusal = refusal
        self.deaf = False
        self.seen: list[str] = []
        self._target = target

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        replied = asyncio.Semaphore(0)
        replies = asyncio.create_task(self._pass_back(server_reader, writer, replied))
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.seen.append(command[0].decode().upper())
                    if error := self.refusal(command):
                        writer.write(f"-{error}\r\n".encode())
                    else:
                        server_writer.write(hiredis.pack_command(tuple(command)))
                        await replied.acquire()
        except OSError:
            pass
        finally:
            replies.cancel()
            server_writer.transport.abort()
            writer.transport.abort()

    async def _pass_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replied: asyncio.Semaphore
    ) -> None:
        """Replies as they are, and errors too, which are parsed to find where a reply ends."""
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                is_message = isinstance(reply, list) and reply and reply[0] == b"smessage"
                if not (is_message and self.deaf):
                    writer.write(encoded(reply))
                if not is_message:
                    replied.release()
        writer.transport.abort()


def encoded(reply: object) -> bytes:
    """A reply in RESP 2."""
    match reply:
        case None:
            return b"$-1\r\n"
        case bool() | int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))
        case hiredis.ReplyError():
            return b"-%b\r\n" % str(reply).encode()
    raise TypeError(type(reply))


@contextlib.asynccontextmanager
async def refusing_server(target: int, refusal: Refusal) -> AsyncIterator[RefusingServer]:
    """A proxy to a port on loopback that ends with the block."""
    refusing = RefusingServer(target, refusal)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(refusing.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    refusing.port = server.sockets[0].getsockname()[1]
    try:
        yield refusing
    finally:
        server.close()
        await cancel_and_wait(*tasks)
