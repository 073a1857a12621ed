"""The JSON of webhook endpoints: bodies of requests, and answers."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tailrace import webhooks
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
    """A body of a request."""

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
    """Whether the old secret signs for a day longer."""

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

    @classmethod
    def of(cls, endpoint: webhooks.Endpoint, **more: str) -> Self:
        """The endpoint as callers see it. `more`: the fields that a subclass adds."""
        return cls(
            id=endpoint.id,
            created_at=endpoint.created // 1000,
            updated_at=endpoint.updated // 1000,
            name=endpoint.name,
            url=endpoint.url,
            event_types=endpoint.event_types,
            signing_secret_hint=f"whsec_...{endpoint.secret[-HINT_CHARACTERS:]}",
            **more,
        )


class EndpointWithSecret(Endpoint):
    """An endpoint whose secret is new."""

    signing_secret: str


class EndpointList(BaseModel):
    """A page of endpoints, newest first."""

    object: Literal["list"] = "list"
    data: list[Endpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, endpoints: Sequence[webhooks.Endpoint], *, has_more: bool) -> Self:
        """The page with these endpoints."""
        first, last = (endpoints[0].id, endpoints[-1].id) if endpoints else (None, None)
        return cls(data=[Endpoint.of(each) for each in endpoints], first_id=first, last_id=last, has_more=has_more)


class DeletedEndpoint(BaseModel):
    """An endpoint that exists no longer."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class SampleResult(BaseModel):
    """The answer of an endpoint to a sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class EventTypeList(BaseModel):
    """The types of event that an endpoint can receive."""

    object: Literal["list"] = "list"
    data: list[str] = list(EVENT_TYPES)
