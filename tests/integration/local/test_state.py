"""Files of the data folder: who ran here, and what is left of it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.errors import ClusterBusyError, ClusterError
from infra.local.log_files import LOG_BYTES_MAX, rotate
from infra.local.machine import process_mark
from infra.local.state import (
    Identity,
    PartRecord,
    Process,
    Running,
    end_leftovers,
    held,
    load_identity,
    save_running,
)


@pytest.fixture
def stray() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that leads a session, as a part does, and that nothing ties to anybody."""
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    ) as process:
        yield process
        process.kill()


def record(process: Process) -> Running:
    part = PartRecord(
        name="valkey",
        kind="valkey",
        state="ready",
        process=process,
        since=time.time(),
        ready_seconds=0.1,
        restarts=0,
    )
    gone = Process(pid=process.pid, mark="an earlier life")
    return Running(supervisor=gone, phase="up", url="", env={}, parts=[part])


def test_a_recorded_process_that_still_runs_is_ended(
    tmp_path: Path, stray: "subprocess.Popen[bytes]"
) -> None:
    left = Process(pid=stray.pid, mark=process_mark(stray.pid))
    save_running(tmp_path, record(left))
    assert end_leftovers(tmp_path) == ["valkey"]
    assert stray.wait(5) < 0
    assert end_leftovers(tmp_path) == []


def test_a_process_that_only_got_the_same_pid_is_spared(
    tmp_path: Path, stray: "subprocess.Popen[bytes]"
) -> None:
    save_running(tmp_path, record(Process(pid=stray.pid, mark="another boot/1")))
    assert end_leftovers(tmp_path) == []
    assert stray.poll() is None


def test_a_lost_database_password_is_told(tmp_path: Path) -> None:
    assert load_identity(tmp_path) == Identity()
    (tmp_path / "postgres").mkdir()
    with pytest.raises(ClusterError, match=r"cluster\.json is missing"):
        load_identity(tmp_path)


def test_a_data_folder_has_one_supervisor(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ClusterBusyError), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "api-1.log"
    with log.open("ab") as writer:
        writer.write(b"x" * (LOG_BYTES_MAX + 1))
        writer.flush()
        rotate(tmp_path)
        writer.write(b"the next line\n")
    assert log.read_bytes() == b"the next line\n"
    assert (tmp_path / "api-1.log.1").stat().st_size == LOG_BYTES_MAX + 1
