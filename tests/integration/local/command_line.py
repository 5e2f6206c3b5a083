"""`python -m infra.local` as a person runs it, in its own data folder, with stand-in services."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from infra.local.machine import free_port
from infra.local.state import Running, load_running

CHECKOUT = Path(__file__).parents[3]
STANDIN = Path(__file__).with_name("standin")  # its package `services` comes first there
COMMAND_SECONDS_MAX = 60.0
# Given, so neither is started; nobody connects.
NO_MODEL = "http://127.0.0.1:9/v1"
NO_POSTGRES = "postgresql://nobody@127.0.0.1:9/nothing"


class CommandLine:
    def __init__(self, folder: Path, **env: str) -> None:
        self.program: tuple[str, ...] = (sys.executable, "-m", "infra.local")
        self.data_dir = folder / "data"
        self.port = free_port()
        self.shown = ""  # by the last `up`
        self.env = {
            "PYTHONPATH": str(CHECKOUT),
            "HEADWATER_DATA_DIR": str(self.data_dir),
            "HEADWATER_PORT": str(self.port),
            "HEADWATER_LLM_BASE_URL": NO_MODEL,
            "HEADWATER_DATABASE_URL": NO_POSTGRES,
            **env,
        }

    def begin(self, *arguments: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self.program, *arguments],
            cwd=STANDIN,
            env={**os.environ, **self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        with self.begin(*arguments, **env) as process:
            out, err = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def start_postgres(self) -> None:
        """From the next `up` on."""
        del self.env["HEADWATER_DATABASE_URL"]

    def up(self, **env: str) -> Running:
        done = self.run("up", **env)
        assert done.returncode == 0, done.stderr
        self.shown = done.stdout
        return self.running()

    def running(self) -> Running:
        running = load_running(self.data_dir)
        assert running is not None
        return running

    def setting(self, name: str) -> str:
        """What `run -- CMD` gives to its command."""
        code = f"import os; print(os.environ['HEADWATER_{name}'])"
        done = self.run("run", "--", sys.executable, "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def processes(self) -> list[str]:
        """Every process of this cluster that the machine still runs."""
        return processes_that_name(self.data_dir)


def processes_that_name(folder: Path) -> list[str]:
    """The command lines of all processes that have `folder` in their words or settings."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            named = str(folder) in line or str(folder) in process.environ().values()
            if named and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {line}")
        except psutil.Error:  # it ended meanwhile
            continue
    return found
