"""What a person can count on who types `make up`, `make down` and `make status`."""

import json
import os
import re
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import jwt
import psutil
import psycopg
import pytest
import redis

from infra.local.servers import valkey_server
from infra.local.unprivileged import NOBODY, unprivileged
from tests.integration.local.command_line import CommandLine
from tests.integration.local.waiting import until

EXIT_NOT_UP = 3


def test_data_ports_and_secrets_stay_over_down_and_up(cluster: CommandLine) -> None:
    cluster.start_postgres()
    before = cluster.up().env
    with redis.Redis.from_url(before["HEADWATER_REDIS_URL"]) as client:
        client.set("kept", "in valkey")
    with psycopg.connect(before["HEADWATER_DATABASE_URL"]) as database:
        database.execute("CREATE TABLE kept AS SELECT 'in postgres' AS word")

    assert cluster.run("down").returncode == 0
    assert cluster.processes() == []
    after = cluster.up().env

    assert after == before
    with redis.Redis.from_url(after["HEADWATER_REDIS_URL"]) as client:
        assert client.get("kept") == b"in valkey"
    with psycopg.connect(after["HEADWATER_DATABASE_URL"]) as database:
        assert database.execute("SELECT word FROM kept").fetchone() == ("in postgres",)


def test_up_shows_each_part_and_a_request_that_works_as_it_is(standing: CommandLine) -> None:
    shown = standing.shown

    for part in ("valkey", "postgres", "migrate", "persister-1", "orchestrator-1", "api-1"):
        assert re.search(rf"^  {part} +(ready|done) +\d+\.\d s$", shown, re.MULTILINE), shown
    assert f"http://127.0.0.1:{standing.port}/schema" in shown
    token = re.search(r"^export TOKEN=(\S+)$", shown, re.MULTILINE)
    assert token is not None
    claims = jwt.decode(token[1], standing.setting("AUTH_SECRET"), algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert f"curl -N http://127.0.0.1:{standing.port}/v1/jobs" in shown
    body = re.search(r"-d '(.*)'", shown)
    assert body is not None
    assert json.loads(body[1])["stream"] is True


def test_token_is_for_the_one_who_was_named(standing: CommandLine) -> None:
    token = standing.run("token", "--sub", "bob").stdout.strip()
    claims = jwt.decode(token, standing.setting("AUTH_SECRET"), algorithms=["HS256"])
    assert claims["sub"] == "bob"
    assert claims["exp"] - claims["iat"] == 24 * 3600


def test_up_twice_does_no_harm(standing: CommandLine) -> None:
    first = standing.running()
    second = standing.run("up")
    assert second.returncode == 0
    assert "already" in second.stdout
    assert "export TOKEN=" in second.stdout
    assert standing.running() == first


def test_two_ups_at_the_same_moment_make_one_cluster(cluster: CommandLine) -> None:
    both = [cluster.begin("up"), cluster.begin("up")]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    supervisors = [line for line in cluster.processes() if "supervise" in line]
    assert len(supervisors) == 1


def test_a_taken_port_is_told_with_its_owner_and_the_variable(cluster: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", cluster.port)):
        failed = cluster.run("up")
    assert failed.returncode == 1
    assert f"port {cluster.port} is taken by pid {os.getpid()} " in failed.stderr
    assert "HEADWATER_PORT" in failed.stderr
    assert cluster.processes() == []
    cluster.up()  # the failure is not in the way once its cause is gone


def test_a_port_of_a_server_that_was_taken_meanwhile_is_chosen_anew(cluster: CommandLine) -> None:
    before = cluster.up().env["HEADWATER_REDIS_URL"]
    cluster.run("down")
    port = int(re.findall(r":(\d+)/", before)[0])
    with socket.create_server(("127.0.0.1", port)):
        after = cluster.up().env["HEADWATER_REDIS_URL"]
    assert f":{port}/" not in after


@pytest.mark.parametrize("broken", ["migrate", "orchestrator"])
def test_a_part_that_does_not_start_is_named_and_nothing_is_left(
    cluster: CommandLine, broken: str
) -> None:
    failed = cluster.run("up", STANDIN_BROKEN=broken)
    part = {"orchestrator": "orchestrator-1"}.get(broken, broken)
    log = cluster.data_dir / "logs" / f"{part}.log"
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"{part}: ")
    assert log.read_text().splitlines()[-1] in failed.stderr
    assert str(log) in failed.stderr
    assert cluster.processes() == []
    assert cluster.run("status").returncode == EXIT_NOT_UP


def test_an_interrupted_up_leaves_nothing(cluster: CommandLine) -> None:
    waiting = cluster.begin("up", STANDIN_SILENT="persister")
    log = cluster.data_dir / "logs" / "persister-1.log"
    until(lambda: log.exists() and "plays" in log.read_text())
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=30)
    assert waiting.returncode != 0
    assert cluster.processes() == []


def test_a_given_address_means_that_no_server_is_started(
    cluster: CommandLine, tmp_path: Path
) -> None:
    with valkey_server(tmp_path) as url:
        running = cluster.up(HEADWATER_REDIS_URL=url)
        assert "valkey" not in [part.name for part in running.parts]
        assert running.env["HEADWATER_REDIS_URL"] == url
        cluster.run("down")
        with redis.Redis.from_url(url) as client:
            assert client.ping()


def test_a_killed_supervisor_leaves_nothing_and_the_next_up_works(cluster: CommandLine) -> None:
    cluster.start_postgres()
    supervisor = cluster.up().supervisor
    os.kill(supervisor.pid, signal.SIGKILL)
    until(lambda: cluster.processes() == [])
    assert cluster.run("status").returncode == EXIT_NOT_UP
    assert cluster.up().supervisor != supervisor
    assert cluster.run("status").returncode == 0


def test_two_clusters_run_side_by_side(cluster: CommandLine, tmp_path: Path) -> None:
    other = CommandLine(tmp_path / "other")
    cluster.up()
    other.up()
    try:
        for line in (cluster, other):
            with urllib.request.urlopen(f"http://127.0.0.1:{line.port}/readyz", timeout=5) as page:
                assert page.read().decode() == line.running().env["HEADWATER_REDIS_URL"]
        assert cluster.run("down").returncode == 0
        assert other.run("status").returncode == 0
    finally:
        other.run("down")
    assert other.processes() == []


def test_status_tells_a_part_that_does_not_answer(standing: CommandLine) -> None:
    gateway = next(part.process for part in standing.running().parts if part.name == "api-1")
    assert gateway is not None
    os.kill(gateway.pid, signal.SIGSTOP)
    status = standing.run("status")
    os.kill(gateway.pid, signal.SIGCONT)
    assert status.returncode == EXIT_NOT_UP
    assert re.search(r"^api-1 .*not answering", status.stdout, re.MULTILINE)


def test_logs_of_one_part_or_of_all(standing: CommandLine) -> None:
    assert set(standing.run("logs", "persister").stdout.splitlines()) == {"persister plays"}
    everything = standing.run("logs").stdout
    assert "orchestrator-1 | orchestrator plays" in everything
    assert "postgres | " in everything
    assert standing.run("logs", "nobody").returncode == 1


def test_logs_follow(standing: CommandLine) -> None:
    with standing.begin("logs", "orchestrator", "-f") as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "orchestrator plays\n"
        parts = standing.running().parts
        process = next(part.process for part in parts if part.kind == "orchestrator")
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        assert following.stdout.readline() == "orchestrator plays\n"  # the one that came after
        until(lambda: standing.run("status").returncode == 0)
        following.terminate()


def test_secrets_are_for_their_owner_alone(standing: CommandLine) -> None:
    for name in ("cluster.json", "running.json", "redis/valkey.conf"):
        assert (standing.data_dir / name).stat().st_mode & 0o077 == 0
    password = standing.running().env["HEADWATER_REDIS_URL"].partition("@")[0].rpartition(":")[2]
    assert not [line for line in standing.processes() if password in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are an ordinary user's already")
def test_an_ordinary_user_runs_it(cluster: CommandLine) -> None:
    cluster.start_postgres()
    cluster.data_dir.mkdir()
    os.chown(cluster.data_dir, NOBODY, NOBODY)
    needs = (Path(sys.executable), Path(sys.base_prefix), cluster.data_dir)
    cluster.program = unprivileged(cluster.program, needs=needs)

    done = cluster.run("up")

    assert done.returncode == 0, done.stderr
    owners = {psutil.Process(int(line.split()[0])).username() for line in cluster.processes()}
    assert owners == {"nobody"}
