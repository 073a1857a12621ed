"""The tags of a generation, which operators search for: the metadata of its request, as `name=value`."""

from tailrace.events import Json
from tailrace_frontend.preview import INVISIBLE

MOST = 16
"""OpenAI's limit of metadata."""

CHARACTERS = 128


def tags_of(request: Json) -> list[str]:
    """Tags of one line each; none of metadata that is no object, or whose values are no text, number or boolean."""
    metadata = request.get("metadata")
    if not isinstance(metadata, dict):
        return []
    pairs = [(name, _text(value)) for name, value in list(metadata.items())[:MOST]]
    return [INVISIBLE.sub(" ", f"{name}={value}")[:CHARACTERS] for name, value in pairs if value is not None]


def _text(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
    return None
