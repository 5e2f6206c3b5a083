"""One child process: started in a session of its own, tied to its starter, ended with its group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.local.machine import process_mark

TETHER = Path(__file__).with_name("tether.py")


class Child:
    """A started process and the session it leads.

    It is killed when the *thread* that made it ends, so start it from one that lives as long.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start `command` (its first word a path), with `env` on top of this process's own.

        What it writes is appended to the file `log`.
        """
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        self.mark = process_mark(self.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; afterwards its code, or minus the signal that ended it."""
        return self._popen.poll()

    def send(self, sent: signal.Signals) -> None:
        """Signal the process itself; nothing happens if it has ended."""
        self._popen.send_signal(sent)

    def end(self) -> None:
        """Kill what is left of the session's process group and collect the exit code."""
        kill_group(self.pid)
        self._popen.wait()


def tethered(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` so that it does not outlive this thread."""
    return [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command]


def kill_group(leader: int) -> None:
    """SIGKILL to the process group `leader` leads, if there still is one."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def exit_text(code: int) -> str:
    """An exit code as people say it: `exit code 1`, `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"
