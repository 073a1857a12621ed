"""Webhook endpoints, as the OpenAI SDKs' `client.webhooks` calls them.

POST   /v1/webhook_endpoints                     register; the answer has the secret
GET    /v1/webhook_endpoints                     list, newest first
GET    /v1/webhook_endpoints/{id}
POST   /v1/webhook_endpoints/{id}                change some fields
DELETE /v1/webhook_endpoints/{id}
POST   /v1/webhook_endpoints/{id}/rotate_secret  the answer has the new secret
POST   /v1/webhook_endpoints/{id}/test           send a sample of an event
GET    /v1/webhook_event_types
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from tailrace import jsoncodec
from tailrace.events import Options
from tailrace.scopes import Scope
from tailrace.webhooks import CreationKey, EndpointRef
from tailrace.webhooks.endpoints import CREATION_S
from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import read_body
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.openai import webhook_schemas as models
from tailrace_frontend.http.openai.errors import Body, validated
from tailrace_frontend.http.openai.retries import key_of
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

MAX_BODY_BYTES = 64 * 1024

router = APIRouter(prefix="/v1", tags=["webhooks"])

EndpointId = Annotated[str, Path(alias="id")]


async def _read(request: Request, model: type[Body]) -> Body:
    """
    Raises:
        InvalidRequest: the body is invalid; `param` names the field.
        RequestTooLarge: the body has more than MAX_BODY_BYTES.
    """
    return validated(model, schemas.decode(await read_body(request, MAX_BODY_BYTES) or b"{}"))


def _answer(model: BaseModel) -> Response:
    return JSONBytesResponse(model.model_dump())


async def _caller(request: Request) -> tuple[Services, str]:
    """This frontend's services, and the owner that the request acts for."""
    services: Services = request.app.state.services
    return services, (await services.identify(request.headers)).owner


def _creation_key(request: Request, given: models.CreateEndpoint) -> CreationKey | None:
    """By which the repetitions of a registration are known, as those of a generation are (`retries`).

    Raises:
        InvalidRequest: the Idempotency-Key is empty or too long.
    """
    body = jsoncodec.canonical(given.model_dump())
    key = key_of(request.headers, body, Options(deadline_s=CREATION_S, retention_s=0))
    return None if key is None else CreationKey(key.key, key.is_new, is_given=key.life_s is None)


@router.post(
    "/webhook_endpoints",
    dependencies=[require(Scope.CREATE)],
    response_model=models.EndpointWithSecret,
)
async def create(request: Request) -> Response:
    """Register a URL that receives events. `signing_secret` is sent here, and to a repetition of the request."""
    services, owner = await _caller(request)
    given = await _read(request, models.CreateEndpoint)
    key = _creation_key(request, given)
    endpoint = await services.webhooks.create(owner, given.name, given.url, given.event_types, key)
    return _answer(models.EndpointWithSecret.of(endpoint, signing_secret=endpoint.secret))


@router.get("/webhook_endpoints", dependencies=[require(Scope.READ)], response_model=models.EndpointList)
async def list_endpoints(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The caller's endpoints, newest first."""
    services, owner = await _caller(request)
    found, has_more = await services.webhooks.list(owner, limit, after)
    return _answer(models.EndpointList.of(found, has_more=has_more))


@router.get("/webhook_endpoints/{id}", dependencies=[require(Scope.READ)], response_model=models.Endpoint)
async def get(request: Request, endpoint_id: EndpointId) -> Response:
    """One endpoint, without its secret."""
    services, owner = await _caller(request)
    return _answer(models.Endpoint.of(await services.webhooks.get(EndpointRef(owner, endpoint_id))))


@router.post(
    "/webhook_endpoints/{id}",
    dependencies=[require(Scope.CREATE)],
    response_model=models.Endpoint,
)
async def update(request: Request, endpoint_id: EndpointId) -> Response:
    """Change some fields. What is already under way is sent to the new URL."""
    services, owner = await _caller(request)
    changes = (await _read(request, models.UpdateEndpoint)).model_dump(exclude_none=True)
    return _answer(models.Endpoint.of(await services.webhooks.update(EndpointRef(owner, endpoint_id), changes)))


@router.delete("/webhook_endpoints/{id}", dependencies=[require(Scope.CANCEL)], response_model=models.DeletedEndpoint)
async def delete(request: Request, endpoint_id: EndpointId) -> Response:
    """Delete the endpoint, and what waits to be delivered there."""
    services, owner = await _caller(request)
    await services.webhooks.delete(EndpointRef(owner, endpoint_id))
    return _answer(models.DeletedEndpoint(id=endpoint_id))


@router.post(
    "/webhook_endpoints/{id}/rotate_secret",
    dependencies=[require(Scope.CREATE)],
    response_model=models.EndpointWithSecret,
)
async def rotate_secret(request: Request, endpoint_id: EndpointId) -> Response:
    """Replace the secret. For 24 hours messages may carry a signature of the old one, too."""
    services, owner = await _caller(request)
    keep_old = (await _read(request, models.RotateSecret)).keep_old_secret_active_for_24_hours
    endpoint = await services.webhooks.rotate_secret(EndpointRef(owner, endpoint_id), keep_old=bool(keep_old))
    return _answer(models.EndpointWithSecret.of(endpoint, signing_secret=endpoint.secret))


@router.post(
    "/webhook_endpoints/{id}/test",
    dependencies=[require(Scope.CREATE)],
    response_model=models.SampleResult,
)
async def send_sample(request: Request, endpoint_id: EndpointId) -> Response:
    """Send a sample of an event, once. `status_code` is the endpoint's answer, whatever it is."""
    services, owner = await _caller(request)
    event_type = (await _read(request, models.SendSample)).event_type
    async with services.rate_limits.turn(owner):
        sample = await services.webhooks.sample(EndpointRef(owner, endpoint_id), event_type)
    status = await services.webhooks.send(sample)
    return _answer(models.SampleResult(webhook_endpoint_id=endpoint_id, event_type=event_type, status_code=status))


@router.get(
    "/webhook_event_types", dependencies=[require(Scope.READ, Scope.CREATE)], response_model=models.EventTypeList
)
async def event_types(request: Request) -> Response:
    """The types of event that an endpoint can receive."""
    await _caller(request)
    return _answer(models.EventTypeList())
