"""The README's demo, typed as it stands there: with make, the bundled model and kill -9."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.machine import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.embedded, pytest.mark.model, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS_MAX = 120
FIRST_WORDS_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 120
POLL_SECONDS = 0.05


def demo_commands() -> list[str]:
    """What follows a `$` in the README's consoles, continued lines joined."""
    readme = (ROOT / "README.md").read_text()
    consoles = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    joined = "".join(consoles).replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


class Terminal:
    """A shell for each command, in a cluster of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.environment = {
            **os.environ,
            "HEADWATER_PORT": str(self.port),
            "HEADWATER_DATA_DIR": str(folder / "data"),
        }

    def types(self, command: str) -> str:
        """Run a command to its end; what it prints."""
        done = subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def watching(self, command: str, output: Path) -> Generator[subprocess.Popen[bytes]]:
        """Run a command beside others, its output in a file."""
        with output.open("wb") as sink:
            process = subprocess.Popen(
                ["bash", "-c", "exec " + self._here(command)],
                cwd=ROOT,
                env=self.environment,
                stdout=sink,
                stderr=sink,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def _here(self, command: str) -> str:
        return command.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")


@pytest.fixture
def terminal(tmp_path: Path) -> Generator[Terminal]:
    terminal = Terminal(tmp_path)
    try:
        yield terminal
    finally:
        terminal.types("make down")


def _until_it_says(path: Path, word: str) -> None:
    deadline = time.monotonic() + FIRST_WORDS_SECONDS_MAX
    while word not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(POLL_SECONDS)


def test_the_demo_of_the_readme_runs(terminal: Terminal, tmp_path: Path) -> None:
    up, export, ask, tail, kill, resume = demo_commands()
    assert "Headwater is up" in terminal.types(up)
    name, _, value = export.removeprefix("export ").partition("=")
    terminal.environment[name] = terminal.types(f"echo -n {value}")
    accepted = terminal.types(ask)
    job = re.search(r"job_[0-9a-f]{34}", accepted)
    assert job is not None, accepted
    shown = tmp_path / "tail.txt"
    tail = re.sub(r"job_[0-9a-f]{34}", job[0], tail)
    with terminal.watching(tail, shown) as watching:
        _until_it_says(shown, "attempt 1")
        terminal.types(kill)
        assert watching.wait(ANSWER_SECONDS_MAX) == 0, shown.read_text()
    text = shown.read_text()
    assert "attempt 2" in text
    events = re.search(r"(\d+) events", text)
    assert events is not None, text
    last = int(events[1])
    resume = re.sub(r"job_[0-9a-f]{34}", job[0], resume)
    rest = terminal.types(re.sub(r"Last-Event-ID: \d+", f"Last-Event-ID: {last - 2}", resume))
    assert re.findall(r"^id: (\d+)$", rest, re.MULTILINE) == [str(last - 1), str(last)]
    assert rest.count("event: done") == 1
