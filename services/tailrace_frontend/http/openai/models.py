"""The models that a caller may name.

GET /v1/models
GET /v1/models/{model}   names may contain slashes

The list begins with `TAILRACE_MODEL`, then has the models that `TAILRACE_MODELS` and `TAILRACE_MODELS_PER_CALLER` name
whole, then the upstream's as the workers have listed them: each where the caller may use it. The first one is the
default of `POST /api/chat`, of the page and of `tailrace ask`. Every model that the caller may name can be asked for.
"""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from tailrace.events import Json
from tailrace.scopes import Scope
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelJson(BaseModel):
    """A model. Its creation is not known here."""

    id: str
    object: Literal["model"] = "model"
    created: Literal[0] = 0
    owned_by: Literal["tailrace"] = "tailrace"


class ModelList(BaseModel):
    """The models that the caller may use; the first is the default."""

    object: Literal["list"] = "list"
    data: list[ModelJson]


@router.get("", dependencies=[require(Scope.READ, Scope.CREATE)], response_model=ModelList)
async def list_models(request: Request) -> Response:
    """The models that the caller may use, the default first: those of the settings, then the upstream's."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    names = await services.generations.list_models(caller.owner)
    return JSONBytesResponse({"object": "list", "data": [model_json(name) for name in names]})


@router.get("/{model:path}", dependencies=[require(Scope.READ, Scope.CREATE)], response_model=ModelJson)
async def get(request: Request, model: str) -> Response:
    """A model that the caller may use."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    services.generations.models.check(caller.owner, model)
    return JSONBytesResponse(model_json(model))


def model_json(name: str) -> Json:
    """A model as OpenAI's API has it. Its creation is not known here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "tailrace"}
