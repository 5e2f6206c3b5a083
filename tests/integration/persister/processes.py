"""Real persister processes: started, signalled and killed by their pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.settings import Settings

SERVICE = ("-m", "services.persister")
EXIT_SECONDS_MAX = 20.0


class PersisterProcess:
    def __init__(self, settings: Settings, folder: Path, program: Sequence[str] = SERVICE) -> None:
        self.ready_file = folder / f"{settings.consumer_name}.ready"
        names = ("redis_url", "database_url", "partitions", "lease_seconds", "heartbeat_seconds")
        fields = {name: getattr(settings, name) for name in (*names, "consumer_name")}
        fields |= {"ready_file": self.ready_file, "data_dir": settings.data_dir}
        env = {f"HEADWATER_{name.upper()}": str(value) for name, value in fields.items()}
        self.log = folder / f"{settings.consumer_name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                env={"PATH": os.environ["PATH"], **env},
                stdout=log,
                stderr=log,
            )

    async def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.ready_file.exists()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(EXIT_SECONDS_MAX)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(EXIT_SECONDS_MAX)


@contextmanager
def persister(
    settings: Settings, folder: Path, *, program: Sequence[str] = SERVICE
) -> Generator[PersisterProcess]:
    """A running process; killed in the end if it still is."""
    started = PersisterProcess(settings, folder, program)
    try:
        yield started
    finally:
        started.kill()
