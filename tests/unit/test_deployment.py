"""The compose file and the proxy in front of it: what they must say, and that their own tools accept them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose, PyOptions

from tailrace.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
NGINX = ROOT / "services" / "nginx.conf"
SECRETS = {"TAILRACE_API_KEYS": "me:a-key-of-mine", "TAILRACE_TICKET_SECRET": "0123456789abcdef"}


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def specified(text: str) -> PyCompose:
    """The compose file as the specification reads it, with defaults for its variables."""
    text = re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda match: match[1] or "given", text)
    options = PyOptions()
    options.apply_merge = True
    return options.from_yaml(text)


def test_the_compose_file_fits_the_specification() -> None:
    assert specified(COMPOSE.read_text()).to_dict()["services"].keys() == {
        "redis", "frontend", "worker", "nginx", "demo-model"
    }  # fmt: skip


def test_an_unknown_word_would_be_noticed() -> None:
    with pytest.raises(ValueError, match="bogus"):
        specified(COMPOSE.read_text().replace("    volumes: [redis", "    bogus: 1\n    volumes: [redis"))


def test_redis_keeps_what_it_holds(compose: Any) -> None:
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert compose["services"]["redis"]["volumes"] == ["redis:/data"]


def test_one_image_serves_every_role(compose: Any) -> None:
    ours = ("frontend", "worker", "demo-model")
    assert len({compose["services"][name]["image"] for name in ours}) == 1
    assert [compose["services"][name]["command"][0] for name in ours] == ["frontend", "worker", "demo-model"]


def test_a_process_is_given_longer_to_stop_than_it_takes(compose: Any) -> None:
    for name in ("frontend", "worker"):
        service = compose["services"][name]
        assert int(service["stop_grace_period"].rstrip("s")) > int(service["environment"]["TAILRACE_DRAIN_S"])


def test_nothing_is_open_to_the_world_without_keys(compose: Any) -> None:
    environment = compose["services"]["frontend"]["environment"]
    assert environment["TAILRACE_API_KEYS"].startswith("${TAILRACE_API_KEYS:?")
    assert environment["TAILRACE_TICKET_SECRET"].startswith("${TAILRACE_TICKET_SECRET:?")


def test_the_proxy_does_not_buffer() -> None:
    text = NGINX.read_text()
    for line in ("proxy_buffering off;", "proxy_http_version 1.1;", "gzip off;"):
        assert line in text


def test_the_proxy_has_connections_for_as_many_readers_as_the_frontends_serve(compose: Any) -> None:
    (mounted,) = compose["services"]["nginx"]["volumes"]
    assert mounted == "./services/nginx.conf:/etc/nginx/nginx.conf:ro"
    connections, files = (
        int(re.findall(rf"^ *{name} (\d+);", NGINX.read_text(), re.MULTILINE)[0])
        for name in ("worker_connections", "worker_rlimit_nofile")
    )
    replicas = int(compose["services"]["frontend"]["deploy"]["replicas"].strip("${}").partition(":-")[2])
    assert files > connections >= 2 * replicas * Settings.model_fields["max_readers"].default


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_accepts_the_file() -> None:
    subprocess.run(
        ["docker-compose", "--file", str(COMPOSE), "config", "--quiet"],
        check=True,
        env=SECRETS | {"PATH": "/usr/bin:/usr/local/bin"},
    )


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    command = ["nginx", "-t", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-g", f"pid {tmp_path}/pid;"]
    check = subprocess.run([*command, "-c", str(NGINX)], check=True, capture_output=True, text=True)
    assert "[warn]" not in check.stderr
