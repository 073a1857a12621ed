from typing import Any

import pytest
from pydantic import SecretStr

from support.asgi import Response, ask
from tailrace.redis import connection
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend

KEYS: dict[str, Any] = {
    "api_keys": SecretStr("anna:a-key-of-anna,ben:b-key-of-ben"),
    "ticket_secret": SecretStr("0123456789abcdef"),
}


async def asked(path: str, key: str = "a-key-of-anna", models: str = "demo,org/llama:8b,gpt-*") -> Response:
    frontend = Frontend(
        Settings(redis_url="redis://127.0.0.1:1/0", models=models, models_per_caller="ben=org/llama:8b", **KEYS)
    )
    return await ask(frontend, "GET", path, headers={"authorization": f"Bearer {key}"})


async def test_list_needs_the_reports_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLIENT_RETRIES", 0)
    response = await asked("/v1/models")
    assert (response.status, response.value["error"]["code"]) == (503, "unavailable")


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
