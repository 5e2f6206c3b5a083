"""A container that plays a part: signalled, frozen and ended through the engine, like a process.

It is made for one life and removed at its end; what a server keeps lies in a folder outside it.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future
from pathlib import Path

from docker.errors import APIError
from testcontainers.core.container import DockerContainer

from infra.local.machine import process_mark

KILLED_SECONDS_MAX = 30.0
SIGNALLED = 128  # the engine's code for a process that signal n ended is 128 + n
NOT_THERE, NOT_RUNNING = 404, 409


class ContainerLife:
    """From the start of a container to its removal."""

    def __init__(self, container: DockerContainer, log: Path) -> None:
        """Start it. What it writes is appended to the file `log`. Raises APIError."""
        try:
            container.start()
        except BaseException:
            container.stop()
            raise
        self._of_library = container
        self._container = container.get_wrapped_container()
        self._container.reload()
        self.pid: int = self._container.attrs["State"]["Pid"]
        self.mark = process_mark(self.pid)
        self._is_removed = False
        self._ended: Future[int] = Future()
        threading.Thread(target=self._follow, args=(log,), daemon=True).start()

    def exit_code(self) -> int | None:
        """None while it runs; afterwards its code, or minus the signal that ended it.

        Raises what went wrong when the engine does not tell.
        """
        return self._ended.result() if self._ended.done() else None

    def send(self, sent: signal.Signals) -> None:
        """Signal its first process; nothing happens if it has ended."""
        try:
            self._container.kill(signal=sent.name)
        except APIError as error:
            if error.status_code not in (NOT_THERE, NOT_RUNNING):
                raise

    def end(self) -> None:
        """Kill what is left of it and remove it."""
        if self._is_removed:
            return
        self.send(signal.SIGKILL)
        self._ended.result(KILLED_SECONDS_MAX)
        self._of_library.stop()
        self._is_removed = True

    def _follow(self, log: Path) -> None:
        try:
            with log.open("ab", buffering=0) as output:
                for piece in self._container.logs(stream=True, follow=True):
                    output.write(piece)
            code = self._container.wait()["StatusCode"]
            self._ended.set_result(SIGNALLED - code if code > SIGNALLED else code)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, a keeper must hear of it
            self._ended.set_exception(error)
