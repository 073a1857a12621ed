"""The services of a frontend on the harness' log, without a server: responses are sent to fake sockets."""

from typing import Any

from starlette.responses import Response

from support.hub_harness import Client, HubHarness
from support.stored_log import done_of_log
from tailrace.log.codec import StoredDone, encode, stored_done
from tailrace.settings import Settings
from tailrace_frontend.client_connection import SCOPE
from tailrace_frontend.http.stream_endpoint import answer_events
from tailrace_frontend.services import Services

Headers = dict[str, str]


class FrontendHarness(HubHarness):
    """Services on the harness' log."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.services = Services(Settings(**settings))
        self.services.log = self.hub.log
        self.services.generations._states._log = self.services.generations._log = self.services.encoders._log = (
            self.hub.log
        )
        self.hub = self.services.hub
        self.hub.log = self.log
        self.log.done = self._done  # type: ignore[method-assign]

    async def _done(self, generation_id: str) -> StoredDone | None:
        """`Log.done`, which reads a socket of its own that a fake Redis does not have."""
        done = await done_of_log(self.log, generation_id)
        return None if done is None else stored_done(encode(done)[1].encode())

    async def get(self, generation_id: str, query: str = "", **headers: str) -> Client:
        """`GET …/events`, to its end."""
        client = Client()
        await answer_events(self.services, generation_id, self.scope(client, query, headers), client.send)
        return client

    async def send(self, response: Response, client: Client | None = None) -> Client:
        """A response, to its end."""
        client = client or Client()
        await response(self.scope(client), _receive, client.send)
        return client

    def scope(self, client: Client, query: str = "", headers: Headers | None = None) -> dict[str, Any]:
        given = {"host": "localhost"} | {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        raw = [(name.encode(), value.encode()) for name, value in given.items()]
        return {
            "type": "http", "method": "POST", "query_string": query.encode(), "headers": raw,
            SCOPE: client.connection,
        }  # fmt: skip

    def count(self, name: str, **labels: str) -> float:
        return self.services.metrics.registry.get_sample_value(f"tailrace_{name}_total", labels) or 0.0


async def _receive() -> Any:
    raise AssertionError("no response reads its request")
