import asyncio
import signal
import sys
import time

import httpx2
import pytest

from tailrace_demo import running

ENDLESS = {"model": "scripted", "stream": True, "script": [{"comment": "ping"}, {"hang": True}]}


async def test_exit_of_the_server_aborts_open_streams() -> None:
    async with httpx2.AsyncClient() as http, running() as base_url:
        response = await http.send(
            http.build_request("POST", f"{base_url}/chat/completions", json=ENDLESS), stream=True
        )
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with pytest.raises(httpx2.TransportError):
        await response.aread()


async def test_first_line_of_the_command_is_its_address() -> None:
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tailrace_demo", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert command.stdout is not None
    announced = (await command.stdout.readline()).decode()
    assert announced.startswith("listening on http://127.0.0.1:")
    base_url = announced.removeprefix("listening on ").strip()
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{base_url}/models")).status_code == 200
    command.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(command.wait(), 3) == 0
