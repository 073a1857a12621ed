"""The bodies of requests under `/v1/admin`."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from tailrace_frontend.http import schemas
from tailrace_frontend.http.bodies import read_body

MAX_BODY_BYTES = 64 * 1024

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A body: an unknown field is a mistake, and a number is no text."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read(request: Request, model: type[Model]) -> Model:
    """The body of a request; without one, the model's defaults.

    Raises:
        InvalidBody: it is invalid; `param` names the field.
        RequestTooLarge: it has more than MAX_BODY_BYTES.
    """
    value = schemas.decode(await read_body(request, MAX_BODY_BYTES) or b"{}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise schemas.invalid_body(schemas.first_problem(error)) from None
