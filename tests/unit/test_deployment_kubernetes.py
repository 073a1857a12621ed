"""The manifests for Kubernetes: their schemas, and the policies that event streams and secrets need."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from pydantic import SecretStr

from support import npm
from support.kustomize import Object, Unsupported, render
from support.manifests import OVERLAYS, RENDERED, SECRETS, core, environment_of, named, of_kind, pods, roles
from tailrace.settings import PREFIX, Settings
from tailrace_cli.arguments import parser
from tailrace_frontend.http.api import create_operations
from tailrace_frontend.server import GRACEFUL_S
from tailrace_frontend.services import Services
from tailrace_worker.worker import LAST_ENDS_S, GenerationWorker

ROOT = Path(__file__).parents[2]
NODE = ROOT / "tests" / "kubernetes"
VERSIONS = "1.29", "1.37"

each_overlay = pytest.mark.parametrize("name", OVERLAYS)
kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


# ── rendering and schemas ────────────────────────────────────────────────────────────────────────────────────────────


@kubectl
@each_overlay
def test_rendered_objects_are_those_of_kubectl(name: str) -> None:
    run = subprocess.run(["kubectl", "kustomize", OVERLAYS[name]], capture_output=True, text=True, check=True)
    theirs = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(run.stdout)}
    assert {(each["kind"], each["metadata"]["name"]): each for each in RENDERED[name]} == theirs


def test_renderer_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: a-\nresources: []\n")
    with pytest.raises(Unsupported, match="namePrefix"):
        render(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_conform_to_the_schemas_of_kubernetes(version: str) -> None:
    objects = different(core)
    assert len(objects) > 15
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_schemas_reject_an_unknown_field() -> None:
    broken = json.loads(json.dumps(named("base", "Deployment", "tailrace-worker")))
    broken["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def different(chosen: Callable[[str], list[Object]]) -> list[Object]:
    """The objects of all overlays, each once, wherever it is the same but for its namespace."""
    known: dict[str, Object] = {}
    for name in OVERLAYS:
        for each in chosen(name):
            metadata = {key: value for key, value in each["metadata"].items() if key != "namespace"}
            known[json.dumps(each | {"metadata": metadata}, sort_keys=True)] = each
    return list(known.values())


def verdict(objects: list[Object]) -> str:
    run = subprocess.run(
        ["node", "validate.mjs"], cwd=npm.install(NODE), env=npm.environment(), text=True, capture_output=True,
        input=json.dumps(objects),
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr
    return run.stdout.strip()


@pytest.mark.long
@npm.requires_npm
def test_custom_resources_conform_to_their_definitions() -> None:
    """Those of KEDA, the Prometheus Operator and the Gateway API, from which the packages of npm are generated."""
    objects = different(lambda name: [each for each in RENDERED[name] if each not in core(name)])
    assert {each["kind"] for each in objects} == {
        "HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication",
    }  # fmt: skip
    assert verdict(objects) == ""
    broken = next(each for each in objects if each["kind"] == "ScaledObject")
    broken["spec"]["fallback"]["behaviour"] = "static"
    broken["spec"]["maxReplicaCount"] = "5"
    found = verdict([broken])
    assert "behaviour" in found
    assert "maxReplicaCount must be integer" in found


# ── what every pod has ───────────────────────────────────────────────────────────────────────────────────────────────


@each_overlay
def test_pods_are_restricted(name: str) -> None:
    for _, pod in pods(name):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert min(context["runAsUser"], context["runAsGroup"]) > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert container["livenessProbe"]
            assert container["readinessProbe"]


def test_image_runs_as_the_user_of_the_pods() -> None:
    dockerfile = (ROOT / "services" / "deploy" / "Dockerfile").read_text()
    (user,) = re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE)
    for _, pod, *_ in roles("base"):
        assert user == f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"


def test_production_admits_restricted_pods_alone() -> None:
    labels = named("production", "Namespace", "tailrace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace") for each in RENDERED["production"]} == {"tailrace", None}


def test_production_names_the_version_of_the_product() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for _, _, container, _ in roles("production"):
        assert container["image"].endswith(f"/tailrace:{version}")


# ── rollouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@each_overlay
def test_grace_period_exceeds_what_a_stopping_process_takes(name: str) -> None:
    for role, pod, _, settings in roles(name):
        grace_s = pod["terminationGracePeriodSeconds"]
        assert grace_s == settings.drain_s + 10 + (settings.lease_s if role == "worker" else 0)
        assert grace_s > settings.drain_s + (LAST_ENDS_S + 5 if role == "worker" else GRACEFUL_S) + 1


@each_overlay
def test_rollouts_start_a_pod_before_they_stop_one(name: str) -> None:
    for role, _, _, settings in roles(name):
        spec = named(name, "Deployment", f"tailrace-{role}")["spec"]
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert spec["progressDeadlineSeconds"] > 600 + settings.drain_s
        if role == "frontend":
            assert spec["minReadySeconds"] >= settings.drain_s, "waves of readers would meet"


@each_overlay
def test_disruption_budgets_cover_both_tiers(name: str) -> None:
    for role, *_ in roles(name):
        budget = named(name, "PodDisruptionBudget", f"tailrace-{role}")["spec"]
        labels = named(name, "Deployment", f"tailrace-{role}")["spec"]["template"]["metadata"]["labels"]
        assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow", "an outage of Redis would hold all nodes"


async def test_probes_are_those_of_the_processes() -> None:
    worker = GenerationWorker(Settings(worker_operations_address="127.0.0.1:0"))
    services = Services(Settings())
    frontend = {getattr(route, "path", "") for route in create_operations(services).routes}
    paths = {"frontend": frontend, "worker": worker.health.routes().keys()}
    for role, _, container, settings in roles("base"):
        probed = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        assert probed == {"/startupz", "/livez", "/readyz"} <= paths[role]
        address = settings.operations_host_and_port if role == "frontend" else settings.worker_operations_host_and_port
        assert {each["name"]: each["containerPort"] for each in container["ports"]}["operations"] == address[1]


# ── settings, secrets and networks ───────────────────────────────────────────────────────────────────────────────────


@each_overlay
def test_processes_accept_their_arguments_and_settings(name: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("me:a-key-of-mine")
    for role, _, container, settings in roles(name):
        assert parser().parse_args(container["args"]).command == role
        known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
        assert {each for each in environment_of(name, container) if each.startswith(PREFIX)} <= known
        redis = SECRETS["tailrace-redis"]
        assert (settings.redis_url, settings.queue_url) == tuple(redis.values()), "one Secret chooses the servers"
        if role == "frontend":
            keys_file = SecretStr(f"@{tmp_path / 'keys'}")
            settings.model_copy(update={"api_keys": keys_file}).check_frontend()


@each_overlay
def test_secrets_are_in_no_configuration(name: str) -> None:
    """A secret is what the settings never print: keys, and URLs that may have a password."""
    fields = Settings.model_fields.items()
    secret = {f"{PREFIX}{key.upper()}" for key, field in fields if field.annotation is SecretStr or not field.repr}
    looks_secret = re.compile(r"KEY|SECRET|PASSWORD|TOKEN", re.IGNORECASE)
    for each in of_kind(name, "ConfigMap"):
        assert not [key for key in each["data"] if key in secret or looks_secret.search(key)]
        assert not [value for value in each["data"].values() if re.search(r"//[^/\s]*:[^/\s]*@|\bsk-", value)]
    for _, pod in pods(name):
        for variable in (each for container in pod["containers"] for each in container.get("env", ())):
            if variable["name"] in secret:
                assert "secretKeyRef" in variable.get("valueFrom", ()) or variable["value"].startswith("@/"), variable
    assert not of_kind(name, "Secret")


def test_page_has_the_command_for_each_secret() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for secret, values in SECRETS.items():
        command = page.partition(f"kubectl create secret generic {secret} ")[2].partition("kubectl")[0]
        needed = {name for name, value in values.items() if value}
        assert set(re.findall(r"--from-literal (\w+)=", command)) == needed


def test_file_of_api_keys_is_a_mounted_secret() -> None:
    _, pod, container, settings = next(roles("base"))
    path = Path(settings.api_keys.get_secret_value().removeprefix("@"))
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == str(path.parent))
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    assert volume["secret"]["items"] == [{"key": path.name, "path": path.name}]
    assert path.name in SECRETS[volume["secret"]["secretName"]]
    assert "subPath" not in mount, "a change would not be seen"


@each_overlay
def test_clients_reach_the_port_of_the_api_and_no_other(name: str) -> None:
    service = named(name, "Service", "tailrace-frontend")["spec"]
    assert [each["targetPort"] for each in service["ports"]] == ["http"]
    assert service.get("type", "ClusterIP") == "ClusterIP"
    policy = named(name, "NetworkPolicy", "tailrace-frontend")["spec"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]
    assert named(name, "NetworkPolicy", "tailrace-worker")["spec"]["ingress"] == []
    covered = [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(name, "NetworkPolicy")]
    for role, *_ in roles(name):
        assert {"app.kubernetes.io/name": "tailrace", "app.kubernetes.io/component": role} in covered


def test_route_gives_event_streams_no_timeout() -> None:
    (rule,) = named("production", "HTTPRoute", "tailrace")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (backend,) = rule["backendRefs"]
    service = named("production", "Service", backend["name"])["spec"]
    assert backend["port"] in [each["port"] for each in service["ports"]]
