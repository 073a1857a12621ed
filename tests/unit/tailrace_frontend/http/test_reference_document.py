"""The OpenAPI document: valid, complete, and true.

openapi-spec-validator accepts references that lead nowhere inside the schema of a body, so they are followed here.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import validate
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from pydantic import SecretStr

from support.asgi import ask
from tailrace import jsoncodec
from tailrace.events import KINDS, Json
from tailrace.ids import is_generation_id
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.http import schemas
from tailrace_frontend.http.openai import response_body
from tailrace_frontend.http.reference import (
    ERROR_EXAMPLES,
    ERRORS,
    EVENT_KINDS,
    EVENTS_EXAMPLE,
    EVERYWHERE,
    FAILED,
    FAILED_EXAMPLE,
    OPERATIONS,
    PARAMETERS,
    TAGS,
)

METHODS = {"get", "post", "delete"}
WITH_KEYS: dict[str, Any] = {
    "api_keys": SecretStr("anna:a-key-of-anna"), "ticket_secret": SecretStr("0123456789abcdef"),
}  # fmt: skip


def document_of(**settings: Any) -> Json:
    document: Json = Frontend(Settings(redis_url="redis://127.0.0.1:1/0", **settings)).api.openapi()
    return document


DOCUMENT = document_of()


def operations(document: Json = DOCUMENT) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert method in METHODS
            yield method.upper(), path, operation


def objects(node: Any) -> Iterator[Json]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from objects(child)


@pytest.mark.parametrize("settings", [{}, WITH_KEYS], ids=["open", "with keys"])
def test_document_is_valid(settings: dict[str, Any]) -> None:
    validate(jsoncodec.loads(jsoncodec.dumps(document_of(**settings))))


def test_validator_refuses_what_is_no_document() -> None:
    with pytest.raises(OpenAPIValidationError):
        validate({**DOCUMENT, "paths": {"/a/{b}": {"get": {"responses": {"200": {"description": "b is missing"}}}}}})


def test_references_lead_to_definitions_of_the_document() -> None:
    references = [node["$ref"] for node in objects(DOCUMENT) if "$ref" in node]
    assert references
    for reference in references:
        node: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
        assert isinstance(node, dict)
    assert not any("$defs" in node for node in objects(DOCUMENT))


def test_every_schema_is_used() -> None:
    text = jsoncodec.dumps(DOCUMENT).decode()
    assert [name for name in DOCUMENT["components"]["schemas"] if f'schemas/{name}"' not in text] == []


def test_table_has_every_operation_and_no_other() -> None:
    assert {(method, path) for method, path, _ in operations()} == set(OPERATIONS)
    names = [operation["operationId"] for *_, operation in operations()]
    assert len(names) == len(set(names))
    summaries = [operation["summary"] for *_, operation in operations()]
    assert len(summaries) == len(set(summaries))


@pytest.mark.parametrize(("method", "path", "operation"), list(operations()))
def test_operation_has_words_tag_and_described_parameters(method: str, path: str, operation: Json) -> None:
    assert operation["summary"] == OPERATIONS[method, path].summary
    assert operation["description"]
    assert set(operation["tags"]) <= set(TAGS)
    parameters = operation.get("parameters", [])
    assert all(each["description"] for each in parameters)
    placed = [(each["in"], each["name"]) for each in parameters]
    assert len(placed) == len(set(placed))
    assert {name for place, name in placed if place == "path"} == set(re.findall(r"{(\w+)", path))
    assert all(each["required"] for each in parameters if each["in"] == "path")


def test_every_description_of_a_parameter_is_used() -> None:
    assert {each["name"] for *_, operation in operations() for each in operation.get("parameters", [])} == set(
        PARAMETERS
    )


@pytest.mark.parametrize(("method", "path", "operation"), list(operations()))
def test_operation_has_the_errors_that_it_sends(method: str, path: str, operation: Json) -> None:
    everywhere = () if "operations" in operation["tags"] else EVERYWHERE
    sent = {str(code) for code in (*OPERATIONS[method, path].errors, *everywhere)}
    assert {code for code in operation["responses"] if not code.startswith("2")} == sent
    for code, response in operation["responses"].items():
        assert response["description"]
        if code in sent:
            schema = response["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorResponse"}
    assert "422" not in operation["responses"]


def test_page_asks_for_json_where_an_operation_can_answer_with_a_stream() -> None:
    """It asks for the first media type of the success with the lowest status that has content."""
    for _, path, operation in operations():
        _, first = min((int(code), each) for code, each in operation["responses"].items() if code.startswith("2"))
        kinds = list(first.get("content", {}))
        if path.startswith("/v1") and not path.endswith("/events"):
            assert kinds[0] == "application/json", path


def test_examples_have_the_form_of_their_schemas() -> None:
    (example,) = DOCUMENT["components"]["schemas"]["GenerationJson"]["examples"]
    schemas.GenerationJson.model_validate(example)
    for code, error in [*ERROR_EXAMPLES.items(), (FAILED, FAILED_EXAMPLE)]:
        schemas.ErrorResponse.model_validate(error)
        assert error["error"].keys() == {"message", "type", "param", "code"}, code
    assert is_generation_id(example["id"])
    assert f'"id":"{example["id"]}"' in EVENTS_EXAMPLE


def test_errors_of_the_table_are_described() -> None:
    assert {code for row in OPERATIONS.values() for code in row.errors} | set(EVERYWHERE) == {*ERRORS, FAILED}
    assert list(ERRORS) == list(ERROR_EXAMPLES)


@pytest.mark.parametrize(("settings", "is_optional"), [({}, True), (WITH_KEYS, False)])
def test_operations_take_the_key_where_there_are_keys(settings: dict[str, Any], is_optional: bool) -> None:
    document = document_of(**settings)
    schemes = document["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    for _, path, operation in operations(document):
        if "operations" in operation["tags"]:
            assert "security" not in operation
        else:
            assert {"key": []} in operation["security"]
            assert ({} in operation["security"]) is is_optional
            assert ({"ticket": []} in operation["security"]) is path.endswith("/events")
            assert {name for each in operation["security"] for name in each} <= set(schemes)


def example_of(path: str) -> Json:
    example: Json = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    return example


async def test_examples_of_bodies_are_accepted() -> None:
    settings = Settings()
    for path in ("/v1/generations", "/v1/chat/completions"):
        schemas.check_create(example_of(path), settings)
    response_body.check_create(example_of("/v1/responses"), settings)
    response_body.check_count(example_of("/v1/responses/input_tokens"))
    for (method, path), row in OPERATIONS.items():
        if method == "POST" and not path.endswith(("/cancel", "/stop")):
            assert row.body is not None, path
        if isinstance(row.schema, type):
            row.schema(**row.body)


def test_event_kinds_are_all_described() -> None:
    assert list(EVENT_KINDS) == [kind.kind for kind in KINDS]
    operation = DOCUMENT["paths"]["/v1/generations/{generation_id}/events"]["get"]
    for kind, text in EVENT_KINDS.items():
        assert f"| `{kind}` | {text} |" in operation["description"]
    assert "application/json" not in operation["responses"]["200"]["content"]
    assert set(re.findall(r"^event: (\w+)$", EVENTS_EXAMPLE, re.MULTILINE)) <= set(EVENT_KINDS)


async def test_document_is_served_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.redis.connection.CLIENT_RETRIES", 0)
    frontend = Frontend(Settings(redis_url="redis://127.0.0.1:1/0", model="llama3.2"))
    response = await ask(frontend, "GET", "/openapi.json")
    assert response.status == 200
    assert response.value["openapi"].startswith("3.1")
    assert b'"model":"llama3.2"' in response.body


async def test_document_names_no_model_of_the_upstream_without_a_key() -> None:
    frontend = Frontend(Settings(redis_url="redis://127.0.0.1:1/0", models="secret-model", **WITH_KEYS))
    response = await ask(frontend, "GET", "/openapi.json")
    assert b"secret-model" not in response.body
    assert b'"model":"demo"' in response.body
