"""The names in an upstream's list of models, and which of them can chat.

The first name is the default where no setting names a model. Models whose names show that they cannot chat are
therefore moved behind the others: OpenAI's own list is in no useful order.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from tailrace import jsoncodec

MAX_NAME = 256
"""Characters of a name; a request cannot name a longer one."""

MAX_LISTED = 10_000
"""Names that are read of a list. OpenRouter's has 400."""

CANNOT_CHAT = re.compile(
    r"embed|whisper|dall-e|moderation|rerank|transcri|realtime|babbage|davinci|(^|[^a-z])(tts|sora|bge|image)([^a-z]|$)",
    re.IGNORECASE,
)


def names_in(listed: Any) -> list[str]:
    """The names in a list of models: `{"data": [{"id": …}]}`, or the array alone (Together). What has another form is
    left out, as are names of more than `MAX_NAME` characters and what follows `MAX_LISTED` names; Ollama without a
    model sends `"data": null`."""
    rows = listed.get("data") if isinstance(listed, dict) else listed
    names = (row.get("id") if isinstance(row, dict) else row for row in (rows if isinstance(rows, list) else ()))
    kept = (name for name in names if isinstance(name, str) and 0 < len(name) <= MAX_NAME)
    return [str(jsoncodec.replace_lone_surrogates(name)) for name in islice(kept, MAX_LISTED)]


def chat_models_first(names: Iterable[str]) -> list[str]:
    """The names, those of models that cannot chat behind the others."""
    return sorted(names, key=lambda name: not can_chat(name))


def can_chat(name: str) -> bool:
    """Whether the name of the model does not show that it cannot chat."""
    return CANNOT_CHAT.search(name) is None
