"""Pods agree with the programs in them: drains, probes, privileges, memory, selectors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from services.api.inspection import AT_ONCE_MAX
from services.api.inspector import MEMORY_BYTES_MAX
from services.api.routes import health
from services.persister.periods import PERIODS_AHEAD
from shared.lifecycle import STOP_SECONDS_MAX
from tests.infra.manifests import (
    every_overlay,
    named,
    of_kind,
    selects,
    settings_of,
    workload,
    workloads,
)

SERVICES: Final = ("api", "orchestrator", "persister")
REST_SECONDS: Final = 2  # of the grace period, for the process to end
HEARD_SECONDS_MIN: Final = 5  # for proxies to hear that a pod goes
DAY_SECONDS: Final = 86_400
GIB: Final = 1024**3


@every_overlay
@pytest.mark.parametrize("component", SERVICES)
def test_the_grace_period_is_longer_than_what_a_stop_may_take(
    overlay: str, component: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = workload(overlay, component)
    pause = one.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = settings_of(one, monkeypatch).drain_seconds
    stops = 2 * STOP_SECONDS_MAX  # of the tasks beside the service, and of the service
    assert one.pod["terminationGracePeriodSeconds"] >= pause + drain + stops + REST_SECONDS


@every_overlay
def test_a_gateway_waits_until_everybody_knows_that_it_goes(overlay: str) -> None:
    one = workload(overlay, "api")
    assert one.container["lifecycle"]["preStop"]["sleep"]["seconds"] >= HEARD_SECONDS_MIN


@every_overlay
def test_programs_exist(overlay: str) -> None:
    for one in workloads(overlay):
        python, flag, module = one.container["command"]
        assert (python, flag) == ("python", "-m")
        assert find_spec(module) is not None, module


@every_overlay
def test_nobody_may_do_more_than_it_must(overlay: str) -> None:
    """More than Pod Security's `restricted` asks for: no cluster, no writing, bounded memory."""
    for one in workloads(overlay):
        pod, container = one.pod, one.container
        assert pod["automountServiceAccountToken"] is False
        account = named(overlay, "ServiceAccount", pod["serviceAccountName"])
        assert account["metadata"]["name"] == one.name
        assert account["automountServiceAccountToken"] is False
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] >= 10_000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
        assert all(
            set(volume) - {"name"} <= {"emptyDir", "configMap"} for volume, _ in one.mounts()
        )
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


@every_overlay
def test_the_archive_is_kept_daily_by_one_at_a_time(overlay: str) -> None:
    """Also of the shortest periods one is left, should a day go wrong."""
    (schedule,) = of_kind(overlay, "CronJob")
    minute, hour, *days = schedule["spec"]["schedule"].split()
    assert minute.isdecimal()
    assert hour.isdecimal()
    assert days == ["*", "*", "*"]
    assert PERIODS_AHEAD > 1
    assert schedule["spec"]["concurrencyPolicy"] == "Forbid"
    assert not schedule["spec"].get("suspend")
    job = schedule["spec"]["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] + schedule["spec"]["startingDeadlineSeconds"] < DAY_SECONDS


@every_overlay
def test_what_a_process_writes_to_has_a_bounded_place(overlay: str) -> None:
    for one in workloads(overlay, "Deployment"):
        written = {p for v, p in one.mounts() if v.get("emptyDir", {}).get("sizeLimit")}
        files = {Path(one.environment["HEADWATER_READY_FILE"]).parent}
        if one.component == "api":
            files.add(Path(one.environment["TMPDIR"]))
        assert {str(file) for file in files} == written


@every_overlay
def test_a_gateway_has_memory_for_the_processes_that_look_into_files(overlay: str) -> None:
    limit = workload(overlay, "api").container["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Gi")) * GIB > AT_ONCE_MAX * MEMORY_BYTES_MAX


@every_overlay
def test_the_gateway_is_asked_where_it_answers(overlay: str) -> None:
    container = workload(overlay, "api").container
    (port,) = container["ports"]
    assert str(port["containerPort"]) == workload(overlay, "api").environment["HEADWATER_PORT"]
    paths = {path for handler in health.HANDLERS for path in handler.paths}
    probes = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in probes.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in paths


@every_overlay
@pytest.mark.parametrize("component", ["orchestrator", "persister"])
@pytest.mark.parametrize(
    ("seconds_old", "ready", "alive"),
    [(-600, True, True), (20, False, True), (3600, False, False), (None, False, True)],
)
def test_probes_tell_a_service_that_waits_from_one_that_hangs(
    overlay: str,
    component: str,
    seconds_old: float | None,
    *,
    ready: bool,
    alive: bool,
    tmp_path: Path,
) -> None:
    one = workload(overlay, component)
    file = tmp_path / "ready"
    if seconds_old is not None:
        file.touch()
        touched = time.time() - seconds_old
        os.utime(file, (touched, touched))
    answers: list[bool] = []
    for probe in ("readinessProbe", "livenessProbe"):
        program, flags, script = one.container[probe]["exec"]["command"]
        assert program == "python"
        assert one.environment["HEADWATER_READY_FILE"] in script
        script = script.replace(one.environment["HEADWATER_READY_FILE"], str(file))
        command = [sys.executable, flags, script]
        answers.append(subprocess.run(command, capture_output=True, check=False).returncode == 0)
    assert answers == [ready, alive]


@every_overlay
def test_selectors_find_what_they_are_meant_for(overlay: str) -> None:
    for one in workloads(overlay, "Deployment"):
        assert selects(one.manifest["spec"]["selector"], one.labels)
        budget = named(overlay, "PodDisruptionBudget", one.name)
        found = [
            o.name for o in workloads(overlay) if selects(budget["spec"]["selector"], o.labels)
        ]
        assert found == [one.name]
        keys = {spread["topologyKey"] for spread in one.pod["topologySpreadConstraints"]}
        assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for spread in one.pod["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], one.labels)
            assert spread["matchLabelKeys"] == ["pod-template-hash"]
    (service,) = of_kind(overlay, "Service")
    wanted = {"matchLabels": service["spec"]["selector"]}
    assert [o.name for o in workloads(overlay) if selects(wanted, o.labels)] == ["headwater-api"]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
