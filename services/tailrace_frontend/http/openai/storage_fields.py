"""`store` and `metadata` of a request, which mean the same on `/v1/chat/completions` and `/v1/responses`."""

from typing import Annotated

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from tailrace.events import Json, Options

MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512
"""OpenAI's limits. Each lifecycle event of a Response repeats the metadata."""

UNSTORED_S = 600
"""An answer with `store: false` is kept so long after its end, as by OpenAI: for clients that poll it or resume."""

MetadataKey = Annotated[str, Field(max_length=MAX_METADATA_KEY)]
MetadataValue = Annotated[str, Field(max_length=MAX_METADATA_VALUE)]


class StorageFields(BaseModel):
    """The two fields; others are not looked at."""

    model_config = ConfigDict(strict=True)

    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA)] | None = None
    store: bool | None = None


def is_stored(request: Json) -> bool:
    """Whether the answer may be continued, and is kept as long as any. OpenAI stores a Chat Completion only where
    `store` is true; here one is kept unless `store` is false, so that its client can resume it."""
    return request.get("store") is not False


def with_retention(options: Options, request: Json) -> Options:
    """The options, with the short retention of an answer that is not stored."""
    if is_stored(request):
        return options
    return msgspec.structs.replace(options, retention_s=min(options.retention_s, UNSTORED_S))
