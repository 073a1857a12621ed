"""Faults to inject: a server that restarts with older data, a TCP link that loses what it carries, Redis commands.

Signals are sent by `Process.send`; every other fault is here.
"""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from redis.asyncio import Redis

from tailrace_cli.embedded import EmbeddedServer

PIECE = 65536


class Snapshot:
    """The data of servers on disk at one moment; `roll_back` restores it."""

    def __init__(self, servers: Iterable[EmbeddedServer]) -> None:
        self._copies: list[tuple[Path, Path]] = []
        for server in servers:
            files = server.data_dir / "appendonlydir"
            copy = server.data_dir.with_name(f"{server.data_dir.name}-snapshot")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(files, copy)
            self._copies.append((files, copy))

    def roll_back(self) -> None:
        """The servers must have been killed; the next start loads the older data."""
        for files, copy in self._copies:
            shutil.rmtree(files)
            shutil.move(copy, files)


def delete_data(servers: Iterable[EmbeddedServer]) -> None:
    """The servers must have been killed; the next start finds nothing."""
    for server in servers:
        shutil.rmtree(server.data_dir / "appendonlydir", ignore_errors=True)
        for dump in Path(server.data_dir).glob("*.rdb"):
            dump.unlink()


class Link:
    """A TCP proxy to a port on loopback whose faults can be switched at any time, for all its connections.

    `cut_replies`: probability that a reply is lost and its connection with it · `delay_s`: delay of each piece ·
    `black_hole`: nothing is forwarded, and no end reports it · `bytes_per_s`: rate of replies, for each connection ·
    `half_open`: the end of a connection is not forwarded · `watch`: called with what clients send.
    """

    def __init__(self, target: int, rng: random.Random) -> None:
        self.target = target
        self.port = 0
        self.cut_replies = 0.0
        self.delay_s = 0.0
        self.black_hole = False
        self.half_open = False
        self.bytes_per_s = 0.0
        self.watch: Callable[[bytes], None] | None = None
        self.cuts = 0
        self._rng = rng
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._drop(writer)
            return
        self._writers.add(server_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, server_writer, self._request))
                both.create_task(self._forward(server_reader, writer, self._reply))
        except* (OSError, ConnectionAbortedError):
            pass
        finally:
            self._drop(writer)
            self._drop(server_writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._writers.discard(writer)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Callable[[bytes], float]
    ) -> None:
        while data := await reader.read(PIECE):
            pause_s = fault(data) + self.delay_s
            if pause_s:
                await asyncio.sleep(pause_s)
            while self.black_hole:  # noqa: ASYNC110 - a switch
                await asyncio.sleep(0.05)
            writer.write(data)
            await writer.drain()
        while self.half_open:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        raise ConnectionAbortedError

    def _request(self, data: bytes) -> float:
        if self.watch:
            self.watch(data)
        return 0.0

    def _reply(self, data: bytes) -> float:
        if self.cut_replies and self._rng.random() < self.cut_replies:
            self.cuts += 1
            raise ConnectionAbortedError
        return len(data) / self.bytes_per_s if self.bytes_per_s else 0.0

    def cut(self) -> None:
        """Abort every connection now."""
        for writer in list(self._writers):
            writer.transport.abort()


@contextlib.asynccontextmanager
async def link(target: int, rng: random.Random, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Link]:
    """A link that closes with the block; on this address of loopback, and port."""
    opened = Link(target, rng)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(opened.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, host, port, limit=PIECE)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def kill_clients(redis: Redis, kind: str) -> None:
    """Close every connection of a kind (`normal`, `pubsub`) except this client's."""
    await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def flush_scripts(redis: Redis) -> None:
    await redis.execute_command("SCRIPT", "FLUSH")


async def flush_data(redis: Redis) -> None:
    await redis.flushall()


async def leave_memory(redis: Redis, spare: int | None) -> None:
    """Limit the server to so many more bytes; None removes the limit."""
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", 0 if spare is None else used + spare)
