import asyncio
import signal
import sys
import time

import httpx2
import pytest

from tailrace_demo import running

ENDLESS = {"model": "scripted", "stream": True, "script": [{"comment": "ping"}, {"hang": True}]}


async def test_leaving_the_server_cuts_what_still_streams() -> None:
    async with httpx2.AsyncClient() as http, running() as base_url:
        told = await http.send(http.build_request("POST", f"{base_url}/chat/completions", json=ENDLESS), stream=True)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    with pytest.raises(httpx2.TransportError):
        await told.aread()


async def test_the_first_line_of_the_command_says_where_it_listens() -> None:
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
