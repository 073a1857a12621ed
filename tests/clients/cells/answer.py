"""What a client made of an answer, in one shape for all clients."""

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TOOL_NAME = "weather"
PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
QUESTION = "What survives?"
LEAVES_AFTER_S = 1.0
"""A request without a stream, whose client leaves, has this timeout."""
LOST_AFTER_S = 0.3
"""The timeout of a request without a stream whose connection is lost in the middle; the answer takes 0.7 s."""
LOST_AT = "t15"
"""A stream loses its connection after this part of the text."""


@dataclass
class Answer:
    """`end`: `complete`, `length`, `cancelled`, or what the client calls it. `error`: the text of what was raised."""

    text: str = ""
    end: str = ""
    calls: list[Json] = field(default_factory=list)
    parsed: Any = None
    refusal: str = ""
    reasoning: str = ""
    usage: Json | None = None
    error: str = ""

    def difference(self, expected: Json) -> str:
        """The first field that is not as expected, or nothing. An error only has to contain what is expected."""
        if self.error and not expected.get("error"):
            return f"raised {self.error}"
        for name, value in expected.items():
            found = getattr(self, name)
            if not (value in found if name == "error" else value == found):
                return f"{name} is {found!r}, expected {value!r}"
        return ""


def call(call_id: str, name: str, arguments: str) -> Json:
    """A call with its arguments, decoded."""
    return {"id": call_id, "name": name, "arguments": json.loads(arguments)}
