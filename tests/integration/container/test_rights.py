"""Each service may do in the stores what it does, and nothing else: the real services prove it."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import redis
from psycopg import errors, sql
from redis.exceptions import NoPermissionError, ResponseError

from infra.container.rights import USERS_FILE, users, users_file
from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from shared.keys import PartitionKeys, jobs_of_user, user_rate
from tests.e2e.archive import answer_of, archived_events, until
from tests.support.confined_stores import (
    Confined,
    confined_postgres,
    confined_valkey,
    make_roles,
)
from tests.support.gateway_client import GatewayClient
from tests.support.model_process import model_process
from tests.support.oracle import violations

LOG = PartitionKeys(0).log
SERVICES = ("api", "orchestrator", "persister")
LEASE_SECONDS = 2
# Who may do what with every table. Nobody but the owner may change one.
TABLE_RIGHTS = {
    "api": {"SELECT"},
    "orchestrator": {"SELECT"},
    "persister": {"SELECT", "INSERT", "UPDATE", "DELETE"},
}
EVERY_RIGHT = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Generator[Confined]:
    with confined_valkey(tmp_path_factory.mktemp("valkey")) as store:
        yield store


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[Confined]:
    with confined_postgres(tmp_path_factory.mktemp("postgres")) as store:
        yield store


@pytest.fixture(scope="module")
def cluster(
    valkey: Confined, postgres: Confined, tmp_path_factory: pytest.TempPathFactory
) -> Generator[LocalCluster]:
    """The services, each as its own user; the migration as the owner of the tables."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    env = {
        "HEADWATER_LEASE_SECONDS": str(LEASE_SECONDS),
        "HEADWATER_HEARTBEAT_SECONDS": "0.5",
        "HEADWATER_LLM_MODEL": "fake:tokens=60,delay_ms=10",
    }
    own = {
        name: {
            "HEADWATER_REDIS_URL": valkey.urls[name],
            "HEADWATER_DATABASE_URL": postgres.urls[name],
        }
        for name in SERVICES
    }
    with model_process() as model_url:
        plan = Plan(
            data_dir=folder,
            llm_base_url=model_url,
            redis_url=valkey.urls["operator"],
            database_url=postgres.urls["owner"],
            env=env,
            env_of=own,
        )
        with LocalCluster(plan) as running:
            yield running


def test_the_file_of_users_says_what_the_table_says() -> None:
    assert USERS_FILE.read_text() == users_file(), "run python -m infra.container.rights"


async def test_a_conversation_needs_no_other_right(
    cluster: LocalCluster, valkey: Confined, postgres: Confined
) -> None:
    with redis.Redis.from_url(valkey.urls["admin"]) as admin:
        cast("Any", admin).acl_log_reset()
    async with GatewayClient(cluster.url, cluster.token("alice")) as client:
        first = await client.ask("A question.")
        await client.follow(first["job_id"])
        second = await client.ask("One that is stopped.", thread_id=first["thread_id"])
        await _first_token(client, second["job_id"])
        await client.call("POST", f"/v1/jobs/{second['job_id']}/cancel")
        await client.follow(second["job_id"])
        await _looks_around(client, first["thread_id"])
        with valkey.server.away():
            pass
        third = await until_accepted(client)
        for accepted in (first, second, third):
            await _holds(client, postgres, accepted["job_id"])
        assert (await client.call("DELETE", f"/v1/threads/{third['thread_id']}"))[0] == 204
    with redis.Redis.from_url(valkey.urls["admin"]) as admin:
        assert cast("Any", admin).acl_log() == []
    assert _complaints(cluster) == []


async def _first_token(client: GatewayClient, job_id: str) -> None:
    async for event in client.events(job_id):
        if event["type"] == "token":
            return


async def _looks_around(client: GatewayClient, thread_id: str) -> None:
    """Every read, and every kind of small write."""
    for path in ("/v1/threads", f"/v1/threads/{thread_id}/messages", "/v1/search/messages?q=one"):
        await client.get(path)
    assert (await client.call("POST", "/v1/tickets", {"thread_id": thread_id}))[0] == 201
    assert (await client.call("PATCH", f"/v1/threads/{thread_id}", {"title": "named"}))[0] == 200
    assert (await client.call("PUT", f"/v1/threads/{thread_id}/participants/bob"))[0] < 300
    async with client.session.ws_connect(f"{client.base_url}/v1/threads/{thread_id}/ws") as socket:
        await socket.send_json({"type": "typing", "is_typing": True})
        await socket.send_json({"type": "ping"})
        while (await socket.receive_json())["type"] != "pong":
            pass
    async with client.session.get(f"{client.base_url}/metrics") as page:
        assert "headwater_redis_up 1" in await page.text()


async def until_accepted(client: GatewayClient) -> Any:
    """A question, asked until Redis, which was started again, takes it."""
    async with asyncio.timeout(20):
        while True:
            status, body = await client.call("POST", "/v1/jobs", {"query": "Are you back?"})
            if status == 202:
                await client.follow(body["job_id"])
                return body


async def _holds(client: GatewayClient, postgres: Confined, job_id: str) -> None:
    seen = await client.follow(job_id)
    with psycopg.connect(postgres.urls["api"], autocommit=True) as reader:
        archived = await archived_events(reader, job_id)
        message = await until(lambda: answer_of(reader, job_id), "the answer's row") or ""
    job = await client.get(f"/v1/jobs/{job_id}")
    assert violations(seen.events, job=job, message=message, archived=archived) == []


def _complaints(cluster: LocalCluster) -> list[str]:
    logs = (cluster.plan.data_dir / "logs").glob("*.log")
    lines = (line for log in logs for line in log.read_text().splitlines())
    return [line for line in lines if "NOPERM" in line or "permission denied" in line]


@pytest.mark.parametrize("name", [user.name for user in users()])
@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "SHUTDOWN", "SCRIPT FLUSH", "ACL LIST",
        f"DEL {LOG}", f"RENAME {LOG} {LOG}2", "MONITOR", "REPLICAOF NO ONE", "DEBUG HELP",
        "HSET elsewhere a b", "SSUBSCRIBE elsewhere", "CLIENT KILL TYPE normal",
    ],
)  # fmt: skip
def test_no_service_rules_redis(valkey: Confined, name: str, command: str) -> None:
    with redis.Redis.from_url(valkey.urls[name]) as user:
        for words in (command.split(), ["EVAL", _script(command), "0"]):
            with pytest.raises(ResponseError, match=r"(?i)permission|not allowed"):
                cast("Any", user).execute_command(*words)


def _script(command: str) -> str:
    return f"return redis.call({', '.join(repr(word) for word in command.split())})"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("orchestrator", user_rate("alice")),
        ("persister", jobs_of_user("alice")),
        ("orchestrator", PartitionKeys(0).ticket("x")),
        ("persister", PartitionKeys(0).idempotency("alice", "key")),
        ("operator", PartitionKeys(0).ticket("x")),
    ],
)
def test_what_is_the_gateways_is_nobody_elses(valkey: Confined, name: str, key: str) -> None:
    with (
        redis.Redis.from_url(valkey.urls[name]) as user,
        pytest.raises(NoPermissionError),
    ):
        user.hget(key, "field")


def test_only_workers_read_commands_and_only_persisters_say_how_far_they_are(
    valkey: Confined,
) -> None:
    keys = PartitionKeys(0)
    with redis.Redis.from_url(valkey.urls["api"]) as api:
        for command in (
            f"XREADGROUP GROUP orchestrators me STREAMS {keys.commands} >",
            f"XCLAIM {keys.commands} orchestrators me 0 1-0",
            f"XAUTOCLAIM {keys.log} persisters me 0 0",
            f"XTRIM {keys.log} MAXLEN 0",
        ):
            with pytest.raises(NoPermissionError):
                cast("Any", api).execute_command(*command.split())


def test_rights_to_tables_are_those_of_the_roles(cluster: LocalCluster, postgres: Confined) -> None:
    make_roles(postgres.urls["admin"])  # once more, as after an upgrade: it changes nothing
    with psycopg.connect(postgres.urls["admin"]) as admin:
        for table in _tables(admin):
            for role, expected in TABLE_RIGHTS.items():
                assert _rights(admin, f"headwater_{role}", table) == expected, (role, table)


@pytest.mark.parametrize("role", ["api", "orchestrator"])
def test_readers_cannot_write_a_row(cluster: LocalCluster, postgres: Confined, role: str) -> None:
    with psycopg.connect(postgres.urls["admin"]) as admin:
        tables = _tables(admin)
    with psycopg.connect(postgres.urls[role], autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = off")  # a habit, not the guard
        for table in tables:
            name = sql.Identifier(table)
            for statement in (
                sql.SQL("DELETE FROM {}").format(name),
                sql.SQL("INSERT INTO {} DEFAULT VALUES").format(name),
                sql.SQL("TRUNCATE {}").format(name),
                sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(name),
            ):
                with pytest.raises(errors.InsufficientPrivilege), reader.transaction():
                    reader.execute(statement)


@pytest.mark.parametrize("role", sorted(TABLE_RIGHTS))
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "CREATE TEMPORARY TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "ALTER TABLE events ADD COLUMN mine int",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "CREATE INDEX mine ON events (thread_id)",
        "DROP TABLE events",
        "TRUNCATE events",
        "CREATE ROLE mine",
        "COPY events TO PROGRAM 'true'",
    ],
)
def test_services_cannot_change_the_schema(
    cluster: LocalCluster, postgres: Confined, role: str, statement: str
) -> None:
    with psycopg.connect(postgres.urls[role], autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(cast("Any", statement))


def _tables(admin: psycopg.Connection) -> list[str]:
    found = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert len(found) > 5
    return [name for (name,) in found]


def _rights(admin: psycopg.Connection, role: str, table: str) -> set[str]:
    return set(_held(admin, role, table))


def _held(admin: psycopg.Connection, role: str, table: str) -> Iterable[str]:
    for right in EVERY_RIGHT:
        row = admin.execute(
            "SELECT has_table_privilege(%s, %s, %s)", (role, table, right)
        ).fetchone()
        if row == (True,):
            yield right
