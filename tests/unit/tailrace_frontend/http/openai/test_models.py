import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

KEYS = {"api_keys": SecretStr("anna:a-key-of-anna,ben:b-key-of-ben"), "ticket_secret": SecretStr("0123456789abcdef")}


async def asked(path: str, key: str = "a-key-of-anna", models: str = "demo,org/llama:8b,gpt-*") -> Response:
    frontend = Frontend(Settings(models=models, models_per_caller="ben=org/llama:8b", **KEYS))  # type: ignore[arg-type]
    return await ask(frontend, "GET", path, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("key", "models", "names"),
    [
        ("a-key-of-anna", "demo,org/llama:8b,gpt-*", ["demo", "org/llama:8b"]),
        ("b-key-of-ben", "demo,org/llama:8b", ["org/llama:8b"]),
        ("a-key-of-anna", "", []),
    ],
)
async def test_list_has_the_models_that_are_named_and_that_the_caller_may_use(
    key: str, models: str, names: list[str]
) -> None:
    response = await asked("/v1/models", key, models)
    assert response.status == 200
    assert response.value["object"] == "list"
    assert [each["id"] for each in response.value["data"]] == names
    assert all(each.keys() == {"id", "object", "created", "owned_by"} for each in response.value["data"])


@pytest.mark.parametrize("name", ["demo", "org/llama:8b", "gpt-4o"])
async def test_model_is_found_by_a_name_that_may_have_slashes(name: str) -> None:
    response = await asked(f"/v1/models/{name}")
    assert (response.status, response.value["id"], response.value["object"]) == (200, name, "model")


@pytest.mark.parametrize(
    ("name", "key"), [("other", "a-key-of-anna"), ("demo", "b-key-of-ben"), ("org/llama", "a-key-of-anna")]
)
async def test_model_that_the_caller_may_not_use_does_not_exist(name: str, key: str) -> None:
    response = await asked(f"/v1/models/{name}", key)
    assert (response.status, response.value["error"]["code"]) == (404, "model_not_found")


async def test_models_are_for_callers_only() -> None:
    for path in ("/v1/models", "/v1/models/demo"):
        assert (await asked(path, "x")).status == 401
