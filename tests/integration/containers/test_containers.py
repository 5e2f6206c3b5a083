"""Servers in containers: set up like the embedded ones, taken away like them, and never left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as blocking
from docker.models.containers import Container
from psycopg import sql
from testcontainers.core.labels import SESSION_ID

from infra.local import postgres, valkey
from infra.local.errors import PartError
from tests.integration.containers.abandoned import containers_of
from tests.support.append_only_file import moment
from tests.support.container_engine import engine
from tests.support.servers import Server

GONE_SECONDS_MAX = 30.0
ANSWER_SECONDS = 0.5
STEP_SECONDS = 0.05


@pytest.fixture
def redis_image(pytestconfig: pytest.Config) -> str:
    return _asked_for(pytestconfig, "--redis-image")


@pytest.fixture
def postgres_image(pytestconfig: pytest.Config) -> str:
    return _asked_for(pytestconfig, "--postgres-image")


def _asked_for(config: pytest.Config, option: str) -> str:
    image = config.getoption(option)
    if image is None:
        pytest.skip(f"needs a container engine and {option}; make test-containers runs it")
    return image


def _container_of(server: Server) -> Container:
    """The one that plays the server now."""
    pid = server.supervisor.pid(server.name)
    return next(one for one in containers_of(SESSION_ID) if one.attrs["State"]["Pid"] == pid)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GONE_SECONDS_MAX
    while not holds():
        assert time.monotonic() < deadline, f"not within {GONE_SECONDS_MAX:g} s"
        time.sleep(STEP_SECONDS)


def test_redis_has_the_settings_of_the_embedded_one(
    redis_image: str, valkey_server: Server
) -> None:
    lines = [line.split(" ", 1) for line in valkey.CONFIG.splitlines() if line[0] != "#"]
    of_the_place = {"bind", "port", "requirepass", "dir", "daemonize"}
    wanted = {name: value.strip('"') for name, value in lines if name not in of_the_place}
    assert {"appendonly", "appendfsync", "maxmemory-policy"} <= wanted.keys()
    with blocking.Redis.from_url(valkey_server.url, decode_responses=True) as client:
        assert cast("Any", client).config_get(*wanted) == wanted
    assert _container_of(valkey_server).attrs["Config"]["Image"] == redis_image


def test_postgres_has_the_settings_of_the_embedded_one(
    postgres_image: str, postgres_server: Server
) -> None:
    elsewhere = {"listen_addresses", "unix_socket_directories"}
    wanted = {name: value for name, value in postgres.SETTINGS.items() if name not in elsewhere}
    wanted |= {"fsync": "on", "synchronous_commit": "on"}
    wanted["wal_compression"] = "pglz"  # as which it shows "on"
    with psycopg.connect(postgres_server.url) as connection:
        ask = "SELECT current_setting(%s)"
        rows = {name: connection.execute(ask, (name,)).fetchone() for name in wanted}
        query = sql.SQL("SELECT pg_encoding_to_char(encoding) FROM pg_database")
        assert connection.execute(query).fetchone() == ("UTF8",)
    assert {name: row[0] for name, row in rows.items() if row} == wanted
    assert _container_of(postgres_server).attrs["Config"]["Image"] == postgres_image


def test_only_this_machine_reaches_them(redis_image: str, valkey_server: Server) -> None:
    bindings = _container_of(valkey_server).attrs["NetworkSettings"]["Ports"].values()
    port = str(urlsplit(valkey_server.url).port)
    assert [one for one in bindings if one] == [[{"HostIp": "127.0.0.1", "HostPort": port}]]


def test_a_killed_server_comes_back_with_what_it_held(
    redis_url: str, valkey_server: Server
) -> None:
    with blocking.Redis.from_url(redis_url) as client:
        client.set("held", "1")
        moment(valkey_server)
        with valkey_server.away(), pytest.raises(blocking.ConnectionError):
            client.get("held")
        assert client.get("held") == b"1"


def test_a_frozen_server_is_silent_and_goes_on(redis_url: str, valkey_server: Server) -> None:
    send = valkey_server.supervisor.kill
    with blocking.Redis.from_url(redis_url, socket_timeout=ANSWER_SECONDS) as client:
        send(valkey_server.name, signal.SIGSTOP)
        try:
            with pytest.raises(blocking.TimeoutError):
                client.ping()
        finally:
            send(valkey_server.name, signal.SIGCONT)
        assert client.ping()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_container(
    redis_image: str, tmp_path: Path, sent: signal.Signals
) -> None:
    program = [sys.executable, "-m", "tests.integration.containers.abandoned"]
    command = [*program, redis_image, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        session = run.stdout.readline().strip()
        assert len(containers_of(session)) == 1
        run.send_signal(sent)
    _until(lambda: not containers_of(session))


def test_without_an_engine_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with pytest.raises(PartError, match="no container engine"), engine("redis:7"):
        pytest.fail("begun")
