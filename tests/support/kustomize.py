"""What `kubectl kustomize` renders of a folder, for machines without it: those fields of Kustomize that the manifests
use. Any other field is an error, and a test compares the result with kubectl's where that is installed."""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

HASH_LETTERS = str.maketrans("013ae", "ghkmt")
"""Kustomize writes these digits of a hash as letters, so that no name becomes a word."""

CLUSTER_WIDE = {"Namespace"}
POD_KINDS = {"Deployment", "StatefulSet"}


class Unsupported(Exception):
    """A field of Kustomize that is not rendered here."""


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization, in the order in which they were read."""
    rendered = [copy.deepcopy(each) for each in _Kustomization(folder, []).objects]
    names = {(each["kind"], each["metadata"]["name"]): each for each in rendered}
    assert len(names) == len(rendered), "an object is there twice"
    _name_generated(rendered)
    return rendered


class _Kustomization:
    """A folder with a `kustomization.yaml`. `given`: the objects that a component changes."""

    def __init__(self, folder: Path, given: list[Object]) -> None:
        self.folder = folder.resolve()
        self.objects = given
        fields = yaml.safe_load((self.folder / "kustomization.yaml").read_text())
        if unknown := fields.keys() - {"apiVersion", "kind"} - self._steps.keys():
            raise Unsupported(f"{folder}: {unknown}")
        for name, step in self._steps.items():
            for value in _listed(fields.get(name)):
                step(self, value)

    def _resources(self, path: str) -> None:
        target = self._inside_or_folder(path)
        found = _Kustomization(target, []).objects if target.is_dir() else yaml.safe_load_all(target.read_text())
        self.objects.extend(found)

    def _components(self, path: str) -> None:
        _Kustomization(self.folder / path, self.objects)

    def _inside_or_folder(self, path: str) -> Path:
        target = (self.folder / path).resolve()
        if not target.is_dir() and not target.is_relative_to(self.folder):
            raise Unsupported(f"{path} is a file above {self.folder}")
        return target

    def _config_maps(self, generator: Object) -> None:
        if unknown := generator.keys() - {"name", "behavior", "envs", "literals", "files", "options"}:
            raise Unsupported(str(unknown))
        data = dict(self._data_of(generator))
        options = generator.get("options", {})
        if generator.get("behavior") == "merge":
            (merged,) = (each for each in self.objects if _is(each, "ConfigMap", generator["name"]))
            merged["data"] |= data
            return
        metadata = {"name": generator["name"]} | ({"labels": options["labels"]} if "labels" in options else {})
        self.objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        if not options.get("disableNameSuffixHash"):
            self.objects[-1]["__hashed__"] = True

    def _data_of(self, generator: Object) -> Iterable[tuple[str, str]]:
        lines = list(generator.get("literals", ()))
        for path in generator.get("envs", ()):
            lines += [line for line in self._inside_or_folder(path).read_text().splitlines() if line]
        for line in lines:
            name, _, value = line.partition("=")
            yield name, value
        for path in generator.get("files", ()):
            yield Path(path).name, self._inside_or_folder(path).read_text()

    def _patch(self, patch: Object) -> None:
        text = patch["patch"] if "patch" in patch else self._inside_or_folder(patch["path"]).read_text()
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        chosen = [each for each in self.objects if each["kind"] == kind and _matches(each, name)]
        assert chosen, f"{self.folder} patches no object"
        for each in chosen:
            for operation in yaml.safe_load(text):
                _apply(each, operation)

    def _image(self, image: Object) -> None:
        for container in _containers(self.objects):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"

    def _replicas(self, replicas: Object) -> None:
        (chosen,) = (
            each for each in self.objects if each["kind"] in POD_KINDS and _matches(each, re.escape(replicas["name"]))
        )
        chosen["spec"]["replicas"] = replicas["count"]

    def _namespace(self, namespace: str) -> None:
        for each in self.objects:
            if each["kind"] not in CLUSTER_WIDE:
                each["metadata"]["namespace"] = namespace

    _steps: dict[str, Callable[["_Kustomization", Any], None]] = {  # noqa: RUF012 - in Kustomize's order
        "resources": _resources, "components": _components, "configMapGenerator": _config_maps, "patches": _patch,
        "images": _image, "replicas": _replicas, "namespace": _namespace,
    }  # fmt: skip


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _is(each: Object, kind: str, name: str) -> bool:
    return bool(each["kind"] == kind and each["metadata"]["name"] == name)


def _matches(each: Object, pattern: str) -> bool:
    return re.fullmatch(pattern, each["metadata"]["name"]) is not None


def _containers(objects: Iterable[Object]) -> Iterable[Object]:
    for each in objects:
        if each["kind"] in POD_KINDS:
            yield from each["spec"]["template"]["spec"]["containers"]


def _apply(target: Any, operation: Object) -> None:
    """An operation of RFC 6902."""
    *path, last = operation["path"].split("/")[1:]
    for step in path:
        target = target[int(step) if isinstance(target, list) else step]
    match operation["op"]:
        case "add" if isinstance(target, list) and last == "-":
            target.append(operation["value"])
        case "add" | "replace":
            place = int(last) if isinstance(target, list) else last
            assert operation["op"] == "add" or isinstance(place, int) or place in target, operation
            target[place] = operation["value"]
        case "remove":
            del target[int(last) if isinstance(target, list) else last]
        case unknown:
            raise Unsupported(unknown)


def _name_generated(objects: list[Object]) -> None:
    """Give generated ConfigMaps the hash of their content in their name, also where containers refer to them."""
    for each in objects:
        if each.pop("__hashed__", False):
            name = each["metadata"]["name"]
            each["metadata"]["name"] = hashed = f"{name}-{_hash(each['data'])}"
            for container in _containers(objects):
                for source in container.get("envFrom", ()):
                    if source.get("configMapRef", {}).get("name") == name:
                        source["configMapRef"]["name"] = hashed


def _hash(data: dict[str, str]) -> str:
    content = {"data": data, "kind": "ConfigMap", "name": ""}  # (Kustomize means the name, and has none there yet)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for letter in "&<>":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(HASH_LETTERS)
