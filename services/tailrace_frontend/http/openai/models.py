"""The models that a caller may name.

GET /v1/models
GET /v1/models/{model}   names may contain slashes

Only the workers know their upstream. The list has the models that `TAILRACE_MODELS` and `TAILRACE_MODELS_PER_CALLER`
name whole, so it is empty where they allow any model. Every model that the caller may name can be asked for.
"""

from fastapi import APIRouter, Request, Response

from tailrace.events import Json
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.openapi import ERRORS
from tailrace_frontend.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", response_model=None, responses=ERRORS)
async def list_models(request: Request) -> Response:
    """The models that are named in the settings and that the caller may use."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    names = services.generations.models.names_for(caller.owner)
    return JSONBytesResponse({"object": "list", "data": [model_json(name) for name in names]})


@router.get("/{model:path}", response_model=None, responses=ERRORS)
async def get(request: Request, model: str) -> Response:
    """A model that the caller may use."""
    services: Services = request.app.state.services
    caller = await services.identify(request.headers)
    services.generations.models.check(caller.owner, model)
    return JSONBytesResponse(model_json(model))


def model_json(name: str) -> Json:
    """A model as OpenAI's API has it. Its creation is not known here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "tailrace"}
