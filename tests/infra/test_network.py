"""Who may talk to whom, and how one comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.infra.manifests import every_overlay, named, of_kind, selects, workloads


@every_overlay
def test_each_program_reaches_its_stores_and_nothing_else(overlay: str) -> None:
    opened = {
        one.component: set(ports(overlay, one.labels, "egress")) for one in workloads(overlay)
    }
    assert opened == {
        "api": {53, 443, 5432, 6379},
        "orchestrator": {53, 443, 5432, 6379},
        "persister": {53, 443, 5432, 6379},
        "migrate": {53, 5432},
        "keep": {53, 5432},
    }


@every_overlay
def test_only_gateways_are_reached(overlay: str) -> None:
    opened = {
        one.component: set(ports(overlay, one.labels, "ingress")) for one in workloads(overlay)
    }
    assert opened.pop("api") == {8080}
    assert not any(opened.values())
    policy = named(overlay, "NetworkPolicy", "headwater-api-from-clients")
    (rule,) = policy["spec"]["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"headwater-clients": "allowed"}}}
    ]


@every_overlay
def test_what_no_policy_names_is_refused(overlay: str) -> None:
    policy = named(overlay, "NetworkPolicy", "headwater-nothing")
    assert policy["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_in_production_every_place_has_an_address() -> None:
    for policy in of_kind("production", "NetworkPolicy"):
        for rule in policy["spec"].get("egress", ()):
            assert rule["to"], policy["metadata"]["name"]


def test_the_way_in_ends_no_stream_and_hides_the_metrics() -> None:
    (route,) = of_kind("production", "HTTPRoute")
    (rule,) = route["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert [match["path"] for match in rule["matches"]] == [{"type": "PathPrefix", "value": "/v1"}]
    (backend,) = rule["backendRefs"]
    service = named("production", "Service", backend["name"])
    assert [port["port"] for port in service["spec"]["ports"]] == [backend["port"]]


def ports(overlay: str, labels: Mapping[str, str], way: str) -> Iterator[int]:
    """What the policies of a pod open, `ingress` or `egress`."""
    for policy in of_kind(overlay, "NetworkPolicy"):
        if selects(policy["spec"]["podSelector"], labels):
            for rule in policy["spec"].get(way, ()):
                yield from (one["port"] for one in rule["ports"])
