"""The rows of the table: which clients there are, and which cells make no sense for them.

The cells are run by programs, one for each language, that share nothing but `cases.json` and this contract:

    PROGRAM BASE_URL

runs each case of each of its clients against `BASE_URL`, such as `http://127.0.0.1:8080/v1`, with a model `CASE` or
`CASE.ANYTHING`, and prints a line of JSON for each cell:

    {"client": "openai-python chat create", "version": "3.52.0", "case": "text", "ok": true, "detail": ""}

`client` is a package, an API and a call; its first word is the package. `ok` is null where the cell makes no sense for
the client, and `detail` has the reason then, as a sentence; where `ok` is false, the error. `tests/clients/cells` is
the program for Python, `tests/clients/node/run.mjs` that for Node.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

NOTHING: Mapping[str, str] = {}


class Client(NamedTuple):
    """`leaves_out`: why the package loses the field that a case is about and is called by, by case. The cell is run all
    the same: the rest of the answer must be right, and the field must be lost."""

    package: str
    api: str
    call: str
    leaves_out: Mapping[str, str] = NOTHING

    @property
    def name(self) -> str:
        return f"{self.package} {self.api} {self.call}"

    @property
    def streams(self) -> bool:
        return "stream" in self.call

    @property
    def can_cancel(self) -> bool:
        """Whether the package has a call that cancels an answer."""
        return self.api == "responses" and self.package != "langchain-openai"


class Cell(NamedTuple):
    """A line of a program."""

    client: str
    version: str
    case: str
    ok: bool | None
    detail: str = ""

    @classmethod
    def parse(cls, line: str) -> "Cell":
        """
        Raises:
            ValueError: it is not a cell.
        """
        value: Any = json.loads(line)
        try:
            cell = cls(value["client"], value["version"], value["case"], value["ok"], value.get("detail") or "")
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a cell: {line}") from error
        if cell.ok not in (True, False, None):
            raise ValueError(f"`ok` is neither true nor false nor null: {line}")
        return cell

    @property
    def package(self) -> str:
        return self.client.partition(" ")[0]

    def failed(self, why: str) -> "Cell":
        return self._replace(ok=False, detail=why)


LANGCHAIN_REASONING = (
    "langchain-openai 1.7 takes from a completion no field that OpenAI's API does not have, `reasoning_content` among "
    "them (the docstring of `ChatOpenAI`)."
)
LANGCHAIN_REFUSAL = (
    "langchain-openai 1.7 takes `refusal` from a completion, but from no chunk (`_convert_delta_to_message_chunk`)."
)
LITELLM_REFUSAL = (
    "LiteLLM 1.83 drops a chunk that has nothing but a `refusal` (`CustomStreamWrapper.is_chunk_non_empty`)."
)

CALLS = ("create", "create(stream)", "stream()", "parse", "with_raw_response")
KINDS = ("", "async ")

OPENAI = tuple(
    Client("openai-python", api, f"{kind}{call}") for api, kind, call in product(("chat", "responses"), KINDS, CALLS)
)

LANGCHAIN = (
    Client("langchain-openai", "chat", "invoke", {"reasoning": LANGCHAIN_REASONING}),
    *(
        Client("langchain-openai", "chat", call, {"reasoning": LANGCHAIN_REASONING, "refusal": LANGCHAIN_REFUSAL})
        for call in ("stream", "astream")
    ),
    *(Client("langchain-openai", "responses", call) for call in ("invoke", "stream", "astream")),
)

LITELLM = (
    Client("litellm", "chat", "completion"),
    *(
        Client("litellm", "chat", call, {"refusal": LITELLM_REFUSAL})
        for call in ("completion(stream)", "acompletion(stream)")
    ),
    *(Client("litellm", "responses", call) for call in ("responses", "responses(stream)", "aresponses(stream)")),
)

PYTHON_CLIENTS: Sequence[Client] = (*OPENAI, *LANGCHAIN, *LITELLM)
