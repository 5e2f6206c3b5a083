"""Variables are settings with values that the programs take, and each program has what it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from shared.agents import load_agents
from shared.errors import SettingsError
from shared.settings import PREFIX, Settings
from tests.infra.manifests import (
    every_overlay,
    named,
    of_kind,
    secrets,
    settings_of,
    workload,
    workloads,
)
from tests.style.documents import SETTINGS, names_in, rows, section

OWNERS: Final = {"keep": "migrate"}  # both are the owner of the tables
NOT_OURS: Final = {"AWS_REGION", "TMPDIR"}  # variables of the store's library, and of Python's


@every_overlay
def test_variables_are_settings_and_their_values_are_valid(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for one in workloads(overlay):
        assert one.environment.keys() <= known | NOT_OURS, one.name
        with monkeypatch.context() as patch:
            settings_of(one, patch)


def test_a_value_that_is_wrong_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = workload("small", "api")
    wrong = {name: map_ | {"data": {"HEADWATER_PORT": "x"}} for name, map_ in one.config.items()}
    with pytest.raises(SettingsError):
        settings_of(replace(one, config=wrong), monkeypatch)


@every_overlay
def test_each_program_has_the_settings_that_it_needs(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows(section(SETTINGS, "Settings"))
    needed_by = {names_in(row[0])[0]: row[4].split(", ") for row in table if len(row) == 5}
    for one in workloads(overlay):
        with monkeypatch.context() as patch:
            settings = settings_of(one, patch)
        needed = [variable for variable, who in needed_by.items() if one.component in who]
        assert needed
        for variable in needed:
            settings.required(variable.removeprefix(PREFIX).lower())


@every_overlay
def test_files_are_kept_where_every_replica_finds_them(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for component in ("api", "persister"):
        with monkeypatch.context() as patch:
            assert isinstance(settings_of(workload(overlay, component), patch).files_location, str)


@every_overlay
def test_secrets_are_those_that_the_guide_names(overlay: str) -> None:
    used = {secret for one in workloads(overlay) for secret in one.secrets}
    assert used == secrets().keys()
    assert not of_kind(overlay, "Secret"), "what is secret is in no file"


@every_overlay
def test_each_program_knows_its_own_secret_only(overlay: str) -> None:
    for one in workloads(overlay):
        assert one.secrets == {f"headwater-{OWNERS.get(one.component, one.component)}"}


@every_overlay
def test_the_archive_is_kept_as_persisters_understand_it(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    understood: list[tuple[int, int, int]] = []
    for component in ("keep", "persister"):
        with monkeypatch.context() as patch:
            settings = settings_of(workload(overlay, component), patch)
        understood.append(
            (settings.partitions, settings.archive_days, settings.archive_period_days)
        )
    assert understood[0] == understood[1]


@every_overlay
def test_gateways_and_workers_know_the_same_agents(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []
    for component in ("api", "orchestrator"):
        one = workload(overlay, component)
        ((volume, place),) = ((v, p) for v, p in one.mounts() if "configMap" in v)
        with monkeypatch.context() as patch:
            path = settings_of(one, patch).agents_file
        assert path is not None
        assert str(path.parent) == place
        known.append(named(overlay, "ConfigMap", volume["configMap"]["name"])["data"][path.name])
    assert known[0] == known[1]
    (tmp_path / "agents.json").write_text(known[0])
    assert load_agents(tmp_path / "agents.json")
