from typing import Any

import pytest

from tailrace.errors import Misconfigured
from tailrace.settings import Settings, load, unknown_variables

LEAK = "hunter2-never-to-be-printed"
NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float)]
SECRETS = {
    "api_keys": f"anna:{LEAK}",
    "ticket_secret": LEAK,
    "redis_url": f"redis://:{LEAK}@cache:6379/0",
    "queue_url": f"redis://anna:{LEAK}@queue:6379/0",
}


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TAILRACE_{name.upper()}", raising=False)


def test_defaults_are_sufficient() -> None:
    settings = load()
    settings.check_frontend()
    assert settings.is_loopback
    assert not settings.has_callers
    assert settings.queue_server == settings.redis_url
    assert settings.origins == []


def test_settings_have_defaults_and_descriptions() -> None:
    assert [name for name, field in Settings.model_fields.items() if field.is_required() or not field.description] == []


def test_overrides_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "1234")
    monkeypatch.setenv("TAILRACE_LEASE_S", "2.5")
    monkeypatch.setenv("PORT", "99")
    assert (load().port, load().lease_s, load(port=4321).port) == (1234, 2.5, 4321)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [LEAK, "", "-1", "nan"])
def test_invalid_value_is_reported_by_variable_and_not_printed(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TAILRACE_{name.upper()}", value)
    with pytest.raises(Misconfigured) as raised:
        load()
    assert f"TAILRACE_{name.upper()}: " in raised.value.message
    assert LEAK not in str(raised.value)
    assert raised.value.__suppress_context__


def test_invalid_values_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_PORT", "70000")
    monkeypatch.setenv("TAILRACE_MAX_JOBS", "0")
    with pytest.raises(Misconfigured, match=r"TAILRACE_PORT: .*; TAILRACE_MAX_JOBS: "):
        load()


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_absent_from_repr_and_str(name: str) -> None:
    settings = load(**{name: SECRETS[name]})
    assert LEAK not in repr(settings)
    assert LEAK not in str(settings)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.example.org", False), ("", False),
    ],
)  # fmt: skip
def test_open_mode_requires_a_loopback_address(host: str, is_loopback: bool) -> None:
    settings = load(host=host)
    assert settings.is_loopback is is_loopback
    if is_loopback:
        settings.check_frontend()
    else:
        with pytest.raises(Misconfigured, match="TAILRACE_API_KEYS"):
            settings.check_frontend()


@pytest.mark.parametrize(("ticket_secret", "is_enough"), [("", False), ("x" * 15, False), ("x" * 16, True)])
def test_api_keys_require_a_long_ticket_secret(ticket_secret: str, is_enough: bool) -> None:
    settings = load(host="0.0.0.0", api_keys=f"anna:{LEAK}", ticket_secret=ticket_secret)
    if is_enough:
        settings.check_frontend()
        return
    with pytest.raises(Misconfigured, match="TAILRACE_TICKET_SECRET") as raised:
        settings.check_frontend()
    assert LEAK not in raised.value.message


@pytest.mark.parametrize(
    ("keys", "has_callers"), [("", False), ("  \n", False), ("anna:key", True), ("@/a/file", True)]
)
def test_callers_exist_where_keys_are_set(keys: str, has_callers: bool) -> None:
    assert load(api_keys=keys).has_callers is has_callers


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", []),
        (" , ", []),
        ("https://a.example", ["https://a.example"]),
        (" https://a.example/ ,http://b:1,", ["https://a.example", "http://b:1"]),
    ],
)
def test_origins_are_parsed_into_a_list(text: str, origins: list[str]) -> None:
    assert load(cors_origins=text).origins == origins


def test_any_origin_is_refused_without_keys() -> None:
    with pytest.raises(Misconfigured, match=r"TAILRACE_CORS_ORIGINS is \*"):
        load(cors_origins="*").check_frontend()
    load(cors_origins="*", api_keys="anna:anna-key-1", ticket_secret=LEAK).check_frontend()
    load(cors_origins="https://a.example").check_frontend()


@pytest.mark.parametrize(("queue_url", "server"), [("", "redis://log/0"), ("redis://queue/0", "redis://queue/0")])
def test_queue_server_defaults_to_the_server_of_the_logs(queue_url: Any, server: str) -> None:
    assert load(redis_url="redis://log/0", queue_url=queue_url).queue_server == server


def test_restart_grace_outlasts_the_lease() -> None:
    assert load(lease_s=2.5).restart_grace_s == 3.5


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:9090", ("127.0.0.1", 9090)), ("[::1]:1", ("::1", 1)), ("metrics:80", ("metrics", 80))],
)
def test_operations_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    settings = load(operations_address=address)
    settings.check_frontend()
    assert settings.operations_host_and_port == parts


@pytest.mark.parametrize("bad", ["9090", ":9090", "host", "host:", "host:http", "host:65536", "host:-1", "host:²"])
def test_malformed_operations_address_is_refused_at_the_start(bad: str) -> None:
    with pytest.raises(Misconfigured, match="TAILRACE_OPERATIONS_ADDRESS is not"):
        load(operations_address=bad).check_frontend()


def test_variable_that_is_no_setting_is_found_with_the_setting_that_it_is_most_like() -> None:
    environment = {
        "TAILRACE_LEASES": "3",
        "tailrace_redis_ulr": "x",
        "TAILRACE_XYZZY": "x",
        "TAILRACE_LEASE_S": "3",
        "TAILRACE_URL": "an example's",
        "TAILRACE_DEV_PROCESSES": "of `tailrace dev`",
        "TAILRACE_WORKER_NAME": "of `tailrace dev`",
        "LEASE_S": "another program's",
    }
    assert unknown_variables(environment) == [
        ("TAILRACE_LEASES", "TAILRACE_LEASE_S"),
        ("TAILRACE_XYZZY", ""),
        ("tailrace_redis_ulr", "TAILRACE_REDIS_URL"),
    ]
