"""The manifests for Kubernetes, rendered, and what a process of theirs would have."""

from collections.abc import Iterator
from pathlib import Path

from support.kustomize import Object, render
from tailrace.settings import PREFIX, Settings

KUBERNETES = Path(__file__).parents[2] / "services" / "deploy" / "kubernetes"
OVERLAYS = {path.name: path for path in [KUBERNETES / "base", *sorted((KUBERNETES / "overlays").iterdir())]}
RENDERED = {name: render(path) for name, path in OVERLAYS.items()}
CUSTOM = {"gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com"}
"""Groups of resources that are not Kubernetes' own."""

SECRETS = {
    "tailrace-redis": {"TAILRACE_REDIS_URL": "redis+sentinel://sentinel-0:26379/main/0", "TAILRACE_QUEUE_URL": ""},
    "tailrace-frontend": {"TAILRACE_TICKET_SECRET": "0123456789abcdef", "TAILRACE_API_KEYS": "me:a-key-of-mine"},
    "tailrace-upstream": {"OPENAI_API_KEY": "sk-upstream"},
}
"""The Secrets as the operator creates them."""


def of_kind(name: str, *kinds: str) -> list[Object]:
    return [each for each in RENDERED[name] if each["kind"] in kinds]


def named(name: str, kind: str, object_name: str) -> Object:
    (found,) = (each for each in of_kind(name, kind) if each["metadata"]["name"] == object_name)
    return found


def pods(name: str) -> Iterator[tuple[Object, Object]]:
    """Each workload, and the specification of its pods."""
    for each in of_kind(name, "Deployment", "StatefulSet"):
        yield each, each["spec"]["template"]["spec"]


def roles(name: str) -> Iterator[tuple[str, Object, Object, Settings]]:
    """Frontends and workers: the role, the specification of the pods, the container, and the settings it would have."""
    for role in ("frontend", "worker"):
        pod = named(name, "Deployment", f"tailrace-{role}")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        environment = environment_of(name, container)
        given = {
            key.removeprefix(PREFIX).lower(): value for key, value in environment.items() if key.startswith(PREFIX)
        }
        yield role, pod, container, Settings.model_validate(given)


def environment_of(name: str, container: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            found |= named(name, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            found |= SECRETS[source["secretRef"]["name"]]
    for variable in container["env"]:
        found[variable["name"]] = variable["value"] if "value" in variable else _secret(variable["valueFrom"])
    return found


def _secret(source: Object) -> str:
    reference = source["secretKeyRef"]
    return SECRETS[reference["name"]][reference["key"]]


def core(name: str) -> list[Object]:
    return [each for each in RENDERED[name] if each["apiVersion"].partition("/")[0] not in CUSTOM]
