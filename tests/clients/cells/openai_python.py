"""The cells of openai-python: two clients, two APIs, five calls."""

from clients.cases import repeats
from clients.cells.answer import Answer
from clients.cells.openai_calls import Calls
from clients.cells.openai_chat import CHAT
from clients.cells.openai_responses import RESPONSES
from clients.table import Client

ASYNC = "async "


async def ask(client: Client, base_url: str, case: str, model: str) -> Answer:
    """What a client of the table made of a case."""
    asks = CHAT if client.api == "chat" else RESPONSES
    calls = Calls(base_url, is_async=client.call.startswith(ASYNC), repeats=repeats(case))
    try:
        return await asks[client.call.removeprefix(ASYNC)](calls, case, model)
    finally:
        await calls.close()
