"""The JSON of webhook endpoints: what clients send, and what they receive."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tailrace import webhooks
from tailrace.events import Json
from tailrace.webhooks.addresses import MAX_URL
from tailrace.webhooks.events import EVENT_TYPES

HINT_CHARACTERS = 4


def _known(event_type: str) -> str:
    if event_type not in EVENT_TYPES:
        raise ValueError("there is no such event here; GET /v1/webhook_event_types lists them")
    return event_type


def _unique(event_types: list[str]) -> list[str]:
    return list(dict.fromkeys(event_types))


EventType = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(EVENT_TYPES)})]
EventTypes = Annotated[
    list[EventType], AfterValidator(_unique), Field(min_length=1, max_length=100, examples=[["response.completed"]])
]
Name = Annotated[str, Field(min_length=1, max_length=256, examples=["billing"])]
Url = Annotated[str, Field(max_length=MAX_URL, examples=["https://example.org/webhooks"])]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CreateEndpoint(Body):
    """An endpoint to register."""

    name: Name
    url: Url
    event_types: EventTypes


class UpdateEndpoint(Body):
    """The fields that change."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class RotateSecret(Body):
    """How the secret is replaced."""

    keep_old_secret_active_for_24_hours: bool | None = None


class SendSample(Body):
    """The event to send a sample of."""

    event_type: EventType


class Endpoint(BaseModel):
    """An endpoint. Times in epoch seconds."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str


class EndpointWithSecret(Endpoint):
    signing_secret: str


class EndpointList(BaseModel):
    """A page of endpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[Endpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedEndpoint(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class SampleResult(BaseModel):
    """How the endpoint answered."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    object: Literal["list"] = "list"
    data: list[str]


def endpoint_json(endpoint: webhooks.Endpoint, *, with_secret: bool = False) -> Json:
    """An endpoint as callers see it."""
    shown: Json = {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created_at": endpoint.created // 1000,
        "updated_at": endpoint.updated // 1000,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": f"whsec_...{endpoint.secret[-HINT_CHARACTERS:]}",
    }
    return shown | {"signing_secret": endpoint.secret} if with_secret else shown


def list_json(endpoints: Sequence[webhooks.Endpoint], *, has_more: bool) -> Json:
    data = [endpoint_json(each) for each in endpoints]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}


def sample_json(endpoint_id: str, event_type: str, status: int) -> Json:
    return {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint_id,
        "event_type": event_type,
        "status_code": status,
        "success": True,
    }
