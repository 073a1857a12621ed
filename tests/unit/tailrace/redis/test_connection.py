import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tailrace.errors import Misconfigured
from tailrace.redis.connection import TRANSIENT_ERRORS, connect
from tailrace_cli.embedded import EmbeddedServer, free_port


@pytest.mark.parametrize(
    "url",
    ["", "localhost:6379", "http://localhost", "redis://:hunter2/cut@localhost", "redis://:hunter2@cache/0?db=zero"],
)
def test_address_of_another_form_is_not_printed(url: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_REDIS_URL") as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__


async def test_connections_are_waited_for_when_all_are_busy(valkey: EmbeddedServer) -> None:
    async with connect(valkey.url, max_connections=2) as client:
        assert await asyncio.gather(*(client.ping() for _ in range(50))) == [True] * 50
        info = await client.info("clients")
        assert info["connected_clients"] <= 2


async def test_client_closes_all_that_it_opened(redis: Redis, valkey: EmbeddedServer) -> None:
    async with connect(valkey.url) as client:
        await asyncio.gather(*(client.client_setname("to-be-closed") for _ in range(10)))
        assert await named(redis, "to-be-closed")
    async with asyncio.timeout(5):
        while await named(redis, "to-be-closed"):
            await redis.ping()


async def named(redis: Redis, name: str) -> list[dict[str, str]]:
    return [each for each in await redis.client_list() if each["name"] == name]


async def test_command_survives_a_restart_of_the_server(embedded: EmbeddedServer) -> None:
    async with connect(embedded.url) as client:
        await client.set("key", "value")
        for end in (embedded.stop, embedded.kill):
            end()
            embedded.start()
            assert await client.get("key") == b"value"


async def test_error_of_a_server_that_is_away_is_transient() -> None:
    async with connect(f"redis://127.0.0.1:{free_port()}/0") as client:
        with pytest.raises(TRANSIENT_ERRORS):
            await client.ping()


async def test_error_of_a_mistake_is_not_transient(redis: Redis) -> None:
    with pytest.raises(ResponseError) as refused:
        await redis.execute_command("NO SUCH COMMAND")
    assert not isinstance(refused.value, TRANSIENT_ERRORS)


async def test_write_that_the_event_loop_refuses_is_a_lost_connection(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop raises RuntimeError for a socket that has just been closed."""

    def refuse(*_: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    connection = await redis.connection_pool.get_connection()
    with monkeypatch.context() as refusing:
        refusing.setattr(connection._writer, "writelines", refuse)
        with pytest.raises(RedisConnectionError, match="the handler is closed"):
            await connection.send_command("PING")
    await redis.connection_pool.release(connection)
