"""Every manifest is one that a cluster takes: valid, to the letter, by the published schemas.

Kubernetes' own kinds are held against the schemas of its releases. A ScaledObject is held against
them as the HorizontalPodAutoscaler that KEDA makes of it, and its other fields, like those of an
HTTPRoute, against the names written down here: their schemas are in no package that could be
installed beside the others.
"""

from __future__ import annotations

from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.infra.manifests import FOLDER, Manifest, every_overlay, of_kind, rendered

OLDEST: Final = "1.32"  # what docs/kubernetes.md asks for
NEWEST: Final = "1.37"
SCALED: Final = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "advanced", "triggers"}
TRIGGER: Final = {
    "prometheus": {"serverAddress", "query", "threshold", "ignoreNullValues"},
    "cpu": {"value"},
}
RULE: Final = {"matches", "timeouts", "backendRefs"}


def check(manifest: Manifest, version: str) -> None:
    """Raises ValidationError or AssertionError."""
    if manifest["kind"] == "ScaledObject":
        check(autoscaler(manifest), version)
    elif manifest["kind"] == "HTTPRoute":
        assert manifest["apiVersion"] == "gateway.networking.k8s.io/v1"
        assert set(manifest["spec"]) == {"parentRefs", "hostnames", "rules"}
        assert all(set(rule) == RULE for rule in manifest["spec"]["rules"])
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def autoscaler(scaled: Manifest) -> Manifest:
    """The HorizontalPodAutoscaler that KEDA makes of a ScaledObject."""
    spec = scaled["spec"]
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert set(spec) == SCALED
    assert set(spec["advanced"]) == {"horizontalPodAutoscalerConfig"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment"} | spec["scaleTargetRef"]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": scaled["metadata"],
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": spec["minReplicaCount"],
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [metric(trigger) for trigger in spec["triggers"]],
            **spec["advanced"]["horizontalPodAutoscalerConfig"],
        },
    }


def metric(trigger: Manifest) -> Manifest:
    told = trigger["metadata"]
    assert set(trigger) - {"name"} == {"type", "metricType", "metadata"}
    assert set(told) == TRIGGER[trigger["type"]]
    assert all(isinstance(value, str) for value in told.values())
    if trigger["type"] == "cpu":
        target = {"type": trigger["metricType"], "averageUtilization": int(told["value"])}
        return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    target = {"type": trigger["metricType"], "averageValue": told["threshold"]}
    external = {"metric": {"name": f"prometheus-{trigger['name']}"}, "target": target}
    return {"type": "External", "external": external}


@every_overlay
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_valid(overlay: str, version: str) -> None:
    for manifest in rendered(overlay):
        check(manifest, version)


def test_the_namespace_is_valid() -> None:
    manifest = yaml.safe_load((FOLDER / "namespace.yaml").read_text())
    check(manifest, NEWEST)
    assert manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("kind", "spoilt"),
    [
        ("Deployment", {"spec": {"replica": 2}}),
        ("NetworkPolicy", {"spec": {"podSelector": "all"}}),
        ("ScaledObject", {"spec": {"minReplicas": 2}}),
        ("ScaledObject", {"spec": {"maxReplicaCount": "many"}}),
        ("ScaledObject", {"spec": {"triggers": [{"type": "cpu", "metadata": {"share": "1"}}]}}),
        ("HTTPRoute", {"spec": {"timeouts": {}}}),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(kind: str, spoilt: dict[str, Any]) -> None:
    manifest = of_kind("production", kind)[0]
    wrong = manifest | {"spec": manifest["spec"] | spoilt["spec"]}
    with pytest.raises((kubernetes_validate.ValidationError, AssertionError)):
        check(wrong, NEWEST)


@every_overlay
def test_names_and_labels_are_the_recommended_ones(overlay: str) -> None:
    for manifest in rendered(overlay):
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "headwater"
        assert metadata["name"].split("-")[0] == "headwater"
        labels = metadata.get("labels", {})
        assert labels["app.kubernetes.io/name"] == "headwater", metadata["name"]
        assert labels["app.kubernetes.io/part-of"] == "headwater", metadata["name"]
