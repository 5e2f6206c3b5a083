"""What a local cluster keeps in its data folder, apart from the parts' data.

    cluster.json   ports and secrets: chosen once, the same after every `down` and `up`
    running.json   who runs now, for the commands that look at it; gone after `down`
    lock           held by the supervisor as long as it lives

Both files can be read by their owner alone and are replaced in one step, so a reader sees an old or
a new one, never half of one.

Failures: cluster.json is lost while the database is there: its password is lost too, and
`load_identity` says so. A supervisor dies without cleaning up: running.json stays, and its
processes are told from later ones that got their pids by the moment they began (`process_mark`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from infra.local.errors import ClusterBusyError, ClusterError
from infra.local.machine import process_mark
from infra.local.process import kill_group

SECRET_BYTES = 32
LEFTOVER_SECONDS_MAX = 10.0


class Identity(BaseModel):
    """Ports and secrets by the part that uses them; those that are missing are chosen anew."""

    ports: dict[str, int] = {}
    secrets: dict[str, str] = {}

    def secret(self, name: str) -> str:
        """The secret of that name, letters and digits, made up the first time."""
        return self.secrets.setdefault(name, secrets.token_hex(SECRET_BYTES))


class Process(BaseModel):
    """A process that may have ended meanwhile."""

    pid: int
    mark: str | None

    def alive(self) -> bool:
        """Whether it still runs, and not another one that got its pid."""
        return self.mark is not None and process_mark(self.pid) == self.mark


class PartRecord(BaseModel):
    """A part as its supervisor last saw it. `since` is in seconds of the epoch."""

    name: str
    kind: str
    state: str
    process: Process | None
    since: float
    ready_seconds: float | None
    restarts: int


class Failure(BaseModel):
    """Why the cluster did not come up."""

    message: str
    log: Path | None = None


class Running(BaseModel):
    """A cluster as its supervisor last saw it; `env` are the settings of a command that joins."""

    supervisor: Process
    phase: str  # starting, up, stopping or failed
    url: str
    env: dict[str, str]
    parts: list[PartRecord]
    failure: Failure | None = None


def load_identity(data_dir: Path) -> Identity:
    """What was chosen for this folder. Raises ClusterError where it can no longer be known."""
    path = data_dir / "cluster.json"
    try:
        return Identity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if (data_dir / "postgres").exists():
            raise ClusterError(
                f"{path} is missing, and with it the password of the database in"
                f" {data_dir / 'postgres'}: put it back, or remove the folder to begin anew"
            ) from None
        return Identity()
    except ValidationError as error:
        raise ClusterError(f"{path} cannot be read: {error}") from None


def save_identity(data_dir: Path, identity: Identity) -> None:
    """Keep what was chosen."""
    _replace(data_dir / "cluster.json", identity.model_dump_json(indent=2))


def load_running(data_dir: Path) -> Running | None:
    """Who ran last in this folder; None after `down`. Its processes may be gone."""
    try:
        return Running.model_validate_json((data_dir / "running.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def save_running(data_dir: Path, running: Running) -> None:
    """Tell who runs."""
    _replace(data_dir / "running.json", running.model_dump_json(indent=2))


def forget_running(data_dir: Path) -> None:
    """Nobody runs any more."""
    (data_dir / "running.json").unlink(missing_ok=True)


def end_leftovers(data_dir: Path) -> list[str]:
    """End what a supervisor left behind that could not clean up; answers the parts' names.

    Only for who holds the lock: then no supervisor is left to mind them.
    """
    running = load_running(data_dir)
    if running is None:
        return []
    found = [part for part in running.parts if part.process is not None and part.process.alive()]
    for part in found:
        if part.process is not None:
            kill_group(part.process.pid)
            _await_end(part.process)
    return [part.name for part in found]


@contextmanager
def held(data_dir: Path) -> Generator[None, None, None]:
    """Be the one supervisor of a data folder. Raises ClusterBusyError when there is one already.

    The kernel lets go of the lock when the process ends, however it ends.
    """
    with (data_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterBusyError(f"a cluster runs in {data_dir} already") from None
        yield


def _await_end(process: Process) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
    while process.alive():
        if time.monotonic() > deadline:
            raise ClusterError(f"pid {process.pid}, of an earlier cluster, does not end")
        time.sleep(0.02)


def _replace(path: Path, text: str) -> None:
    draft = path.with_suffix(f".{os.getpid()}.new")
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
