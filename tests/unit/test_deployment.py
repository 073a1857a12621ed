"""The compose file, the proxy in front of it and the CI workflow: required settings, and their own tools' verdict."""

import asyncio
import os
import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose, PyOptions

from support.proxy_servers import CONFIGURATIONS, installed, make_certificate
from tailrace.settings import Settings
from tailrace.tracing.provider import is_wanted
from tailrace_cli.arguments import parser
from tailrace_cli.embedded import free_port
from tailrace_frontend.http.routes import MAX_WAIT_S

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
NGINX = ROOT / "services" / "deploy" / "nginx.conf"
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
SECRETS = {"TAILRACE_API_KEYS": "me:a-key-of-mine", "TAILRACE_TICKET_SECRET": "0123456789abcdef"}


CHECKS = {"haproxy": ["-c", "-f"], "caddy": ["validate", "--adapter", "caddyfile", "--config"]}


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load(COMPOSE.read_text())


def specified(text: str) -> PyCompose:
    """The compose file parsed by the specification, with defaults for its variables."""
    text = re.sub(r"\$\{\w+(?::[-+]([^}]*)|:\?[^}]*)?\}", lambda match: match[1] or "given", text)
    options = PyOptions()
    options.apply_merge = True
    return options.from_yaml(text)


def test_compose_file_conforms_to_the_specification() -> None:
    assert specified(COMPOSE.read_text()).to_dict()["services"].keys() == {
        "redis", "frontend", "worker", "nginx", "demo-model", "prometheus", "grafana",
        "collector",
    }  # fmt: skip


def test_compose_parser_rejects_an_unknown_key() -> None:
    with pytest.raises(ValueError, match="bogus"):
        specified(COMPOSE.read_text().replace("    volumes: [redis", "    bogus: 1\n    volumes: [redis"))


def test_redis_persists_and_evicts_nothing(compose: Any) -> None:
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert compose["services"]["redis"]["volumes"] == ["redis:/data"]


def test_redis_has_a_limit_of_memory(compose: Any) -> None:
    command = compose["services"]["redis"]["command"]
    assert command[command.index("--maxmemory") + 1] == "${REDIS_MAXMEMORY:-2gb}"


def test_operations_are_neither_published_nor_behind_the_proxy(compose: Any) -> None:
    frontend = compose["services"]["frontend"]
    port = frontend["environment"]["TAILRACE_OPERATIONS_ADDRESS"].partition(":")[2]
    assert "ports" not in frontend
    assert "ports" not in compose["services"]["worker"]
    assert port not in NGINX.read_text()


def test_health_checks_are_the_commands_own(compose: Any) -> None:
    """A worker is asked whether it lives: no restart brings Redis back. (Docker restarts none; orchestrators do.)"""
    for name, arguments in (("frontend", ["frontend", "--ready"]), ("worker", ["worker"])):
        test = compose["services"][name]["healthcheck"]["test"]
        assert test == ["CMD", "tailrace", "health", *arguments]
        parser().parse_args(test[2:])
    assert compose["services"]["worker"]["environment"]["TAILRACE_WORKER_OPERATIONS_ADDRESS"]


def test_proxy_writes_no_request_line_of_an_event_stream_into_a_log() -> None:
    """The error log has the request line of each upstream that is cut, at every level below `emerg`."""
    text = NGINX.read_text()
    streams = text.partition("location ~ ^/v1/generations/[^/]+/events$ {")[2].partition("}")[0]
    assert "error_log /dev/null emerg;" in streams
    assert re.findall(r"^ *access_log (.*?);", text, re.MULTILINE) == ["off"]


def test_image_is_the_same_for_every_role(compose: Any) -> None:
    ours = ("frontend", "worker", "demo-model")
    assert len({compose["services"][name]["image"] for name in ours}) == 1
    assert len({compose["services"][name]["build"]["dockerfile"] for name in ours}) == 1
    assert (ROOT / compose["services"]["frontend"]["build"]["dockerfile"]).is_file()
    assert [compose["services"][name]["command"][0] for name in ours] == ["frontend", "worker", "demo-model"]


def test_image_with_traces_is_installed_from_their_lock_file(compose: Any) -> None:
    text = (ROOT / compose["services"]["worker"]["build"]["dockerfile"]).read_text()
    assert "--require-hashes -r requirements${EXTRA:+-$EXTRA}.txt" in text
    copied = re.findall(r"^COPY (requirements.*) \./$", text, re.MULTILINE)[0].split()
    assert copied == ["requirements.txt", "requirements-otel.txt"]
    for name in ("frontend", "worker"):
        service = compose["services"][name]
        assert service["build"]["args"] == {"EXTRA": "${EXTRA:-}"}
        assert service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "${OTEL_EXPORTER_OTLP_ENDPOINT:-}"
    assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}), "without an address the variable is empty"


def test_collector_is_added_by_its_profile_and_shown_on_this_host_alone(compose: Any) -> None:
    collector = compose["services"]["collector"]
    assert collector["profiles"] == ["otel"]
    assert all(port.startswith("127.0.0.1:") for port in collector["ports"])
    assert "http://collector:4318" in COMPOSE.read_text()


def test_file_of_upstreams_is_where_its_processes_look_for_it(compose: Any) -> None:
    for service in (compose["services"][name] for name in ("frontend", "worker")):
        (mounted,) = service["volumes"]
        assert mounted == "${TAILRACE_CONFIG:-/dev/null}:/etc/tailrace.toml:ro"
        assert service["environment"]["TAILRACE_CONFIG"] == "${TAILRACE_CONFIG:+/etc/tailrace.toml}"
    assert Settings().config == "", "without the file the variable is empty"


def test_stop_grace_period_exceeds_what_a_stopping_process_takes(compose: Any) -> None:
    for name, more_s in (("frontend", 10), ("worker", 10 + Settings.model_fields["lease_s"].default)):
        service = compose["services"][name]
        drain_s = int(service["environment"]["TAILRACE_DRAIN_S"])
        assert int(service["stop_grace_period"].rstrip("s")) >= drain_s + more_s


def test_compose_requires_api_keys_and_a_ticket_secret(compose: Any) -> None:
    environment = compose["services"]["frontend"]["environment"]
    assert environment["TAILRACE_API_KEYS"].startswith("${TAILRACE_API_KEYS:?")
    assert environment["TAILRACE_TICKET_SECRET"].startswith("${TAILRACE_TICKET_SECRET:?")


def test_proxy_does_not_buffer() -> None:
    text = NGINX.read_text()
    for line in ("proxy_buffering off;", "proxy_http_version 1.1;", "gzip off;"):
        assert line in text


def test_proxy_waits_longer_than_a_frontend_may_be_silent() -> None:
    """Between two keep-alives, three of them lost, and before the answer to the longest `?wait=`."""
    (timeout,) = re.findall(r"^ *proxy_read_timeout (\d+)s;", NGINX.read_text(), re.MULTILINE)
    assert int(timeout) >= MAX_WAIT_S + 10
    assert int(timeout) >= 4 * Settings.model_fields["keepalive_s"].default


def test_proxy_has_two_connections_for_each_reader_of_all_frontends(compose: Any) -> None:
    (mounted,) = compose["services"]["nginx"]["volumes"]
    assert mounted == "./services/deploy/nginx.conf:/etc/nginx/nginx.conf:ro"
    connections, files = (
        int(re.findall(rf"^ *{name} (\d+);", NGINX.read_text(), re.MULTILINE)[0])
        for name in ("worker_connections", "worker_rlimit_nofile")
    )
    replicas = int(compose["services"]["frontend"]["deploy"]["replicas"].strip("${}").partition(":-")[2])
    assert files > connections >= 2 * replicas * Settings.model_fields["max_readers"].default


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_compose_file_is_accepted_by_docker_compose() -> None:
    subprocess.run(
        ["docker-compose", "--file", str(COMPOSE), "config", "--quiet"],
        check=True,
        env=SECRETS | {"PATH": "/usr/bin:/usr/local/bin"},
    )


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_proxy_configuration_is_accepted_by_nginx(tmp_path: Path) -> None:
    command = ["nginx", "-t", "-p", str(tmp_path), "-e", str(tmp_path / "error.log"), "-g", f"pid {tmp_path}/pid;"]
    check = subprocess.run([*command, "-c", str(NGINX)], check=True, capture_output=True, text=True)
    assert "[warn]" not in check.stderr


@pytest.mark.parametrize(("kind", "arguments"), CHECKS.items())
def test_other_proxy_configuration_is_accepted_whole(kind: str, arguments: list[str], tmp_path: Path) -> None:
    """With the addresses of docker-compose.yml, which the tests that run it replace."""
    path, configuration = installed(kind), tmp_path / "configuration"
    certificate = str(make_certificate(tmp_path).both)
    text = CONFIGURATIONS[kind].read_text().replace("/usr/local/etc/haproxy/tls.pem", certificate)
    configuration.write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    command = [path, *arguments, str(configuration)]
    check = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert check.returncode == 0, check.stderr
    for word in ("[WARNING]", "[ALERT]", "deprecated", "not formatted"):
        assert word not in check.stderr


@pytest.mark.parametrize("kind", ["haproxy", "caddy"])
def test_other_proxy_waits_longer_than_a_frontend_may_be_silent(kind: str) -> None:
    text = CONFIGURATIONS[kind].read_text()
    pattern = {
        "haproxy": r"^ *timeout (?:client|server) (\d+)s",
        "caddy": r"^\t*(?:read|response_header)_timeout (\d+)s",
    }
    timeouts = [int(found) for found in re.findall(pattern[kind], text, re.MULTILINE)]
    assert len(timeouts) == 2
    assert min(timeouts) >= MAX_WAIT_S + 10
    assert min(timeouts) >= 4 * Settings.model_fields["keepalive_s"].default


def test_other_proxies_ask_frontends_of_compose_whether_they_are_ready(compose: Any) -> None:
    port = compose["services"]["frontend"]["environment"]["TAILRACE_OPERATIONS_ADDRESS"].partition(":")[2]
    haproxy, caddy = (CONFIGURATIONS[kind].read_text() for kind in ("haproxy", "caddy"))
    assert "option httpchk GET /readyz" in haproxy
    assert f"default-server check port {port} inter 1s fall 1" in haproxy
    assert f"health_uri /readyz\n\t\thealth_port {port}\n\t\thealth_interval 1s" in caddy
    accepted_s = Settings.model_fields["drain_accept_s"].default
    assert accepted_s >= 3, "a stopping frontend accepts connections for several checks"


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
async def test_proxy_logs_streams_that_are_cut_without_their_tickets(tmp_path: Path) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n:\n\n\r\n")
        await writer.drain()
        writer.transport.abort()

    upstream = await asyncio.start_server(cut, "127.0.0.1", 0)
    port, log = free_port(), tmp_path / "error.log"
    text = NGINX.read_text().replace("http://frontend:8080", f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}")
    text = text.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/dev/stderr", str(log))
    temporary = " ".join(
        f"{name}_temp_path {tmp_path};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", "http { " + temporary, 1)
    (tmp_path / "nginx.conf").write_text(f"daemon off; pid {tmp_path}/pid;\n{text}")
    command = ["nginx", "-p", str(tmp_path), "-e", str(tmp_path / "start.log"), "-c", str(tmp_path / "nginx.conf")]
    nginx = await asyncio.create_subprocess_exec(*command)
    try:
        for path in ("/v1/generations/gen_x/events?ticket=secret", "/v1/generations/gen_x?other=logged"):
            await _get(port, path)
        upstream.close()
        await _get(port, "/v1/generations/gen_x/events?ticket=secret")
    finally:
        nginx.terminate()
        await nginx.wait()
    assert "other=logged" in log.read_text()
    assert "secret" not in log.read_text() + (tmp_path / "start.log").read_text()


async def _get(port: int, path: str) -> None:
    """Request a path once the port is open, and read until the connection ends."""
    deadline = time.monotonic() + 10
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            assert time.monotonic() < deadline, "nginx does not start"
            await asyncio.sleep(0.02)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()


def test_workflow_runs_the_scripts_and_nothing_else() -> None:
    (job,) = WORKFLOW["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["scripts/check", "scripts/test"]
    assert [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
    ]


def test_workflow_begins_with_the_oldest_supported_python() -> None:
    (job,) = WORKFLOW["jobs"].values()
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert job["strategy"]["matrix"]["python"] == [oldest, "3.12", "3.13"]


def test_version_is_written_in_pyproject_only() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    sources = [path for root in ("shared", "services") for path in (ROOT / root).rglob("*.py")]
    assert [str(path) for path in (COMPOSE, *sources) if f'"{version}"' in path.read_text()] == []
    assert f"tailrace:{version}" not in COMPOSE.read_text()
