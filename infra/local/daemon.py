"""The cluster in the background: `up` starts a supervisor of its own session and looks on.

    up ──starts──▶ supervise ──writes──▶ running.json ◀──reads── up, status, down

Failures: `up` is interrupted: the supervisor it started is told to stop. Two `up` at the same
moment: the second supervisor finds the lock held and leaves, and both `up` look on at the first. A
supervisor that does not stop in DOWN_SECONDS_MAX is killed, and its parts with it.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.local.cluster import LocalCluster
from infra.local.errors import ClusterBusyError, ClusterError
from infra.local.log_files import rotate
from infra.local.part import PartState
from infra.local.plan import Plan
from infra.local.process import exit_text
from infra.local.state import (
    PartRecord,
    Process,
    Running,
    end_leftovers,
    forget_running,
    held,
    load_running,
)

LOOK_SECONDS = 0.05
UP_SECONDS_MAX = 300.0
DOWN_SECONDS_MAX = 120.0
LOG_CHECK_SECONDS = 10.0
EXIT_FAILED = 1
EXIT_BUSY = 75  # EX_TEMPFAIL of <sysexits.h>
ENDINGS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)

Show = Callable[[PartRecord], None]


def supervise(plan: Plan) -> int:
    """Be the supervisor, in the foreground, until SIGTERM or SIGINT: the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with LocalCluster(plan):
            while True:
                time.sleep(LOG_CHECK_SECONDS)
                rotate(plan.data_dir / "logs")
    except KeyboardInterrupt:
        return 0
    except ClusterBusyError:
        return EXIT_BUSY
    except ClusterError as error:
        log.error("cluster failed: %s", error)  # its trace would tell a person nothing more
        return EXIT_FAILED


def _interrupt(*_: object) -> None:
    for number in ENDINGS:  # once is enough: the stop that follows is not cut short
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def up(data_dir: Path, supervise_command: Sequence[str], show: Show) -> tuple[Running, bool]:
    """The cluster once it is up, and whether it ran before; `show` gets each part that is ready.

    `supervise_command` starts a supervisor for this folder. Raises ClusterError when the cluster
    does not come up; then nothing is left running.
    """
    deadline = time.monotonic() + UP_SECONDS_MAX
    running = _settled(data_dir)
    if running is not None:
        return _watch(data_dir, running.supervisor, show, deadline), True
    (data_dir / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    with _log(data_dir).open("ab") as output:
        started = subprocess.Popen(
            supervise_command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        supervisor = _supervisor(data_dir, started, deadline)
        return _watch(data_dir, supervisor, show, deadline), supervisor.pid != started.pid
    except BaseException:
        started.terminate()
        started.wait(DOWN_SECONDS_MAX)
        raise


def down(data_dir: Path) -> bool:
    """Stop the cluster and wait for its end; whether there was one. Raises ClusterError."""
    running = load_running(data_dir)
    if running is None:
        return False
    if running.supervisor.alive():
        os.kill(running.supervisor.pid, signal.SIGTERM)
        if not _ends(running.supervisor):
            os.kill(running.supervisor.pid, signal.SIGKILL)
            _ends(running.supervisor)
    with held(data_dir):
        end_leftovers(data_dir)
        forget_running(data_dir)
    return running.phase != "failed"


def _settled(data_dir: Path) -> Running | None:
    """The cluster that runs or comes up now; one that is going down is waited for."""
    running = load_running(data_dir)
    if running is None or not running.supervisor.alive():
        return None
    if running.phase in ("stopping", "failed"):
        _ends(running.supervisor)
        return None
    return running


def _supervisor(data_dir: Path, started: subprocess.Popen[bytes], deadline: float) -> Process:
    """Who supervises this folder: the one we started, or one that was quicker."""
    while time.monotonic() < deadline:
        code = started.poll()
        running = load_running(data_dir)
        if running is not None and (
            running.supervisor.pid == started.pid or running.supervisor.alive()
        ):
            return running.supervisor
        if code not in (None, EXIT_BUSY):
            raise ClusterError(f"the supervisor ended with {exit_text(code)}", _log(data_dir))
        time.sleep(LOOK_SECONDS)
    raise ClusterError("no supervisor came up", _log(data_dir))


def _watch(data_dir: Path, supervisor: Process, show: Show, deadline: float) -> Running:
    """Wait until the cluster of this supervisor is up."""
    shown: set[str] = set()
    while time.monotonic() < deadline:
        alive = supervisor.alive()  # before its last words are read
        running = load_running(data_dir)
        if running is not None and running.supervisor == supervisor:
            _show_ready(running, shown, show)
            if running.phase == "up" and alive:
                return running
            if running.failure is not None:
                raise ClusterError(running.failure.message, running.failure.log)
        if not alive:
            raise ClusterError("the cluster was stopped while it came up", _log(data_dir))
        time.sleep(LOOK_SECONDS)
    raise ClusterError(f"the cluster was not up within {UP_SECONDS_MAX:g} s", _log(data_dir))


def _show_ready(running: Running, shown: set[str], show: Show) -> None:
    for part in running.parts:
        if part.name not in shown and part.state in (PartState.READY, PartState.DONE):
            shown.add(part.name)
            show(part)


def _ends(supervisor: Process) -> bool:
    deadline = time.monotonic() + DOWN_SECONDS_MAX
    while supervisor.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _log(data_dir: Path) -> Path:
    return data_dir / "logs" / "supervisor.log"
