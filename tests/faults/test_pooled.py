"""A pooler in transaction mode stands between the services and Postgres: nobody notices."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from shared.postgres import BOUNDS, Database, create_engine
from tests.faults.arena import Arena, Options
from tests.support.pgbouncer import SERVER_CONNECTIONS, find_pgbouncer, pooled
from tests.support.servers import Server, running_postgres

CONNECTIONS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    find_pgbouncer()
    with running_postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="module")
def pooled_url(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with pooled(server.url, tmp_path_factory.mktemp("pooler") / "pgbouncer") as url:
        yield url


@pytest.fixture
def pooled_arena(plan: Plan, pooled_url: str, options: Options, tmp_path: Path) -> Generator[Arena]:
    env = {"HEADWATER_DATABASE_POOLED": "1", "HEADWATER_DATABASE_CONNECTIONS": str(CONNECTIONS)}
    own = replace(
        plan, data_dir=tmp_path / "cluster", database_url=pooled_url, env={**plan.env, **env}
    )
    with LocalCluster(own) as cluster:
        yield Arena(cluster, options, tmp_path)


async def test_answers_are_kept_through_a_pooler(pooled_arena: Arena, server: Server) -> None:
    """Six services of four connections each share the server's; some are killed, and Redis too."""
    async with pooled_arena.row("beside: through a pooler") as row:
        await row.users.stream(6)
        row.faults.kill("persister-1")
        row.faults.kill("orchestrator-1")
        await row.users.finished()
        await row.faults.ready("persister-1", "orchestrator-1")
        await row.users.stream(6)
        row.faults.kill("valkey")
        await row.users.finished()
    with psycopg.connect(server.url) as connection:
        of_us = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headwater-%'"
        held = connection.execute(of_us).fetchone()
    assert held is not None
    assert held[0] <= SERVER_CONNECTIONS


async def test_bounds_hold_through_a_pooler_and_leave_nothing_behind(pooled_url: str) -> None:
    engine = create_engine(Database(pooled_url, 2, pooled=True), application="test")
    for _ in range(10):  # more often than statements are prepared after
        async with engine.connect() as connection:
            for name, milliseconds in BOUNDS.items():
                query = text(f"SELECT setting FROM pg_settings WHERE name = '{name}'")
                assert await connection.scalar(query) == str(milliseconds)
    await engine.dispose()
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as other:
        for name in (*BOUNDS, "search_path"):
            setting = "SELECT setting = reset_val FROM pg_settings WHERE name = %s"
            assert other.execute(setting, [name]).fetchone() == (True,), f"{name} is still set"


async def test_without_the_setting_a_pooler_says_no(pooled_url: str) -> None:
    engine = create_engine(pooled_url, application="test")
    with pytest.raises(OperationalError, match="unsupported startup parameter"):
        await engine.connect()
    await engine.dispose()
