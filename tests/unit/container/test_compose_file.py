"""What compose.yaml promises of every container, held against the file itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from shared.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[3]
TEXT: Final = (ROOT / "compose.yaml").read_text()
FILE: Final[dict[str, Any]] = yaml.safe_load(TEXT)
SERVICES: Final[dict[str, dict[str, Any]]] = FILE["services"]
DOCKERFILE: Final = (ROOT / "infra" / "container" / "Dockerfile").read_text()
SECRETS_SH: Final = ROOT / "infra" / "container" / "secrets.sh"

UNPRIVILEGED: Final = "10001:10001"
# Their images begin as root and give that up; what they need for it, and nothing more.
STORES: Final = {
    "valkey": {"CHOWN", "SETGID", "SETUID"},
    "postgres": {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"},
}
ONE_SHOT: Final = {"migrate", "console"}
# What the image, or the place in the network, decides.
NOT_TO_BE_SET: Final = {"host", "port", "data_dir", "ready_file", "consumer_name"}
REQUIRED: Final = re.compile(r"\$\{(\w+):\?")
every_service = pytest.mark.parametrize("name", sorted(SERVICES))


@every_service
def test_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service.get("cap_add", ())) == STORES.get(name, set())
    assert service["user"] == ("0:0" if name in STORES else UNPRIVILEGED)
    assert not {"privileged", "network_mode", "pid", "devices"} & service.keys()


@every_service
def test_service_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert {"mem_limit", "cpus", "pids_limit"} <= service.keys()
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()
    assert all("size=" in mount for mount in service.get("tmpfs", ()))


@every_service
def test_service_tells_how_it_is_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert (service["restart"], service["healthcheck"]) == ("no", {"disable": True})
    else:
        assert service["restart"] == "unless-stopped"
        assert {"test", "interval", "timeout", "retries"} <= service["healthcheck"].keys()


def test_there_are_two_of_each_service_behind_one_door() -> None:
    assert {name: service.get("scale", 1) for name, service in SERVICES.items()} == {
        "proxy": 1, "api": 2, "orchestrator": 2, "persister": 2, "migrate": 1, "keeper": 1,
        "console": 1, "valkey": 1, "postgres": 1, "model": 1,
    }  # fmt: skip
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert SERVICES["proxy"]["ports"][0].startswith("${HEADWATER_HOST:-127.0.0.1}:")


def test_networks_join_only_those_who_speak_to_each_other() -> None:
    on = {
        network: {name for name, service in SERVICES.items() if network in service["networks"]}
        for network in FILE["networks"]
    }
    services = {"api", "orchestrator", "persister", "migrate", "keeper", "console"}
    assert on == {
        "door": {"proxy"},
        "front": {"proxy", "api", "console"},
        "stores": services | {"valkey", "postgres"},
        "model": {"orchestrator", "model"},
        "outside": {"api", "orchestrator"},
    }
    internal = {name for name, net in FILE["networks"].items() if net and net.get("internal")}
    assert internal == {"front", "stores", "model"}


def test_a_gateway_believes_the_proxys_network_and_no_other() -> None:
    subnet = FILE["networks"]["front"]["ipam"]["config"][0]["subnet"]
    assert SERVICES["api"]["environment"]["HEADWATER_TRUSTED_PROXIES"] == subnet


def test_a_secret_reaches_only_who_needs_it() -> None:
    holders: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for value in service.get("environment", {}).values():
            for secret in REQUIRED.findall(str(value)):
                holders.setdefault(secret, set()).add(name)
    stores = {
        f"{store}_{user}_PASSWORD": {server}
        for store, server, users in (
            ("REDIS", "valkey", ("ADMIN", "API", "ORCHESTRATOR", "PERSISTER", "OPERATOR")),
            ("POSTGRES", "postgres", ("ADMIN", "OWNER", "API", "ORCHESTRATOR", "PERSISTER")),
        )
        for user in users
    }
    assert holders == stores | {
        "HEADWATER_AUTH_SECRET": {"api", "console"},
        "HEADWATER_REDIS_URL_API": {"api"},
        "HEADWATER_REDIS_URL_ORCHESTRATOR": {"orchestrator"},
        "HEADWATER_REDIS_URL_PERSISTER": {"persister"},
        "HEADWATER_REDIS_URL_OPERATOR": {"console"},
        "HEADWATER_DATABASE_URL_API": {"api", "console"},
        "HEADWATER_DATABASE_URL_ORCHESTRATOR": {"orchestrator"},
        "HEADWATER_DATABASE_URL_PERSISTER": {"persister"},
        "HEADWATER_DATABASE_URL_OWNER": {"migrate", "keeper"},
    }


def test_every_setting_can_be_set() -> None:
    passed = {name for service in SERVICES.values() for name in service.get("environment", {})}
    wanted = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields.keys() - NOT_TO_BE_SET}
    assert wanted - passed == set()


def test_whoever_has_a_database_is_told_how_it_is_used() -> None:
    for service in SERVICES.values():
        names = service.get("environment", {}).keys()
        told = {"HEADWATER_DATABASE_CONNECTIONS", "HEADWATER_DATABASE_POOLED"} & names
        assert len(told) == (2 if "HEADWATER_DATABASE_URL" in names else 0)


def test_the_archive_is_kept_by_its_owner_as_persisters_understand_it() -> None:
    keeper, persister = (SERVICES[name]["environment"] for name in ("keeper", "persister"))
    shared = {f"HEADWATER_{name}" for name in ("PARTITIONS", "ARCHIVE_DAYS", "ARCHIVE_PERIOD_DAYS")}
    assert shared <= keeper.keys()
    assert all(keeper[name] == persister[name] for name in shared)
    assert SERVICES["keeper"]["command"] == "python -m services.persister.keep --watch"
    assert (
        keeper["HEADWATER_DATABASE_URL"]
        == (SERVICES["migrate"]["environment"]["HEADWATER_DATABASE_URL"])
    )


def test_secrets_are_made_once_and_each_is_another(tmp_path: Path) -> None:
    first = _secrets(tmp_path)
    (tmp_path / ".env").write_text(first)
    values = dict(line.split("=", 1) for line in first.splitlines())
    assert values.keys() >= set(REQUIRED.findall(TEXT))
    passwords = [value for name, value in values.items() if name.endswith(("PASSWORD", "SECRET"))]
    assert len(set(passwords)) == len(passwords)
    assert all(len(password) == 64 for password in passwords)
    assert _secrets(tmp_path) == ""


def test_an_image_holds_what_is_named_and_runs_as_nobody() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert {path.split("/")[0] for paths in copied for path in paths.split()} == allowed
    assert all((ROOT / path).exists() for path in allowed)
    for stage in ("service", "model", "proxy"):
        body = re.split(rf"^FROM \S+ AS {stage}$", DOCKERFILE, flags=re.MULTILINE)[1]
        body = re.split(r"^FROM ", body, flags=re.MULTILINE)[0]
        assert f"\nUSER {UNPRIVILEGED}\n" in body
        assert "\nHEALTHCHECK " in body
    assert DOCKERFILE.count("--require-hashes") == DOCKERFILE.count(" install --no-compile") == 2
    assert DOCKERFILE.rstrip().endswith("FROM service")


def _secrets(folder: Path) -> str:
    shell = shutil.which("sh")
    assert shell is not None
    made = subprocess.run([shell, str(SECRETS_SH)], cwd=folder, capture_output=True, check=True)
    return made.stdout.decode()
