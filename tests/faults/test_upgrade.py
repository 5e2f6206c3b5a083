"""Services of the version before and of this one work side by side, in every order.

Each step streams answers through a mixed cluster and kills somebody in the midst of it; the oracle
then judges all of it at once: one history, two versions.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from services.persister.schema import newest_revision
from tests.faults.arena import Arena, Options, Row
from tests.faults.former import ROOT, Versions, former_version, unpack

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(600)]  # every part starts several times

COMMAND_SECONDS_MAX = 120


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    commit, folder = former_version(), tmp_path_factory.mktemp("versions")
    unpack(commit, folder / "former")
    return Versions(folder / "chosen", folder / "former")


@pytest.fixture
def mixed(plan: Plan, versions: Versions, options: Options, tmp_path: Path) -> Generator[Arena]:
    """A cluster of the version before, whose parts can be started anew with another one."""
    names = (*plan.service_names, "migrate")
    versions.choose(names, former=True)
    own = replace(
        plan,
        data_dir=tmp_path / "cluster",
        launcher="tests.faults.version_launcher",
        env_of={name: {"VERSION_FILE": str(versions.folder / name)} for name in names},
    )
    with LocalCluster(own) as cluster:
        yield Arena(cluster, options, tmp_path)


async def restart(row: Row, versions: Versions, *names: str, former: bool) -> None:
    versions.choose(names, former=former)
    for name in names:
        row.faults.term(name)
        await row.faults.ready(name)


async def run(row: Row, module: str) -> None:
    """A command of this version."""
    env = {**os.environ, **row.cluster.env}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=env, stderr=subprocess.PIPE
    )
    _, told = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS_MAX)
    assert process.returncode == 0, told.decode()


async def converse(row: Row, *killed: str) -> None:
    """Answers stream, through both gateways; some parts are killed in the midst of it."""
    await row.users.stream(4, viewers=2)
    for name in killed:
        row.faults.kill(name)
    await row.users.finished()
    await row.faults.ready(*killed)


def revision(row: Row) -> str:
    with psycopg.connect(row.cluster.database_url) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found is not None
    return found[0]


async def test_an_upgrade_step_by_step_in_the_midst_of_answers(
    mixed: Arena, versions: Versions
) -> None:
    async with mixed.row("beside: two versions, upwards") as row:

        async def talk(*killed: str) -> None:
            await converse(row, *filter(versions.may_start, killed))

        before = revision(row)
        streaming = asyncio.create_task(talk())
        await run(row, "services.persister.migrate")
        await streaming
        assert revision(row) == newest_revision() >= before
        await talk("persister-1", "orchestrator-1")  # the version before, on the newer schema

        await restart(row, versions, "api-1", former=False)  # a gateway of each, older workers
        await talk("orchestrator-2")
        await restart(row, versions, "orchestrator-1", "persister-1", former=False)
        await talk("orchestrator-1", "persister-2")  # taken over by the version before,
        await talk("orchestrator-2", "persister-1")  # and the other way round
        await talk("valkey")  # restored by either

        await restart(row, versions, "api-1", former=True)
        await restart(row, versions, "orchestrator-2", "persister-2", former=False)
        await talk("orchestrator-1", "api-1")  # older gateways, newer workers
        await restart(row, versions, "api-1", "api-2", former=False)
        await run(row, "services.persister.divide")
        await talk("persister-1", "persister-2")


async def test_an_upgrade_can_be_taken_back(mixed: Arena, versions: Versions) -> None:
    """Down to the version before, on the newer schema; until the archive is divided."""
    if not versions.takes_newer_schema:
        pytest.skip("persisters of the version before refuse a newer schema")
    async with mixed.row("beside: two versions, and back") as row:
        await run(row, "services.persister.migrate")
        names = row.cluster.plan.service_names
        await restart(row, versions, *names, former=False)
        await converse(row)
        await restart(row, versions, *names, former=True)
        await converse(row, "orchestrator-1", "persister-1")
