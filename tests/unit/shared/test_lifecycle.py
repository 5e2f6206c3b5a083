"""A process from its start to its exit code, with real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests.support.scripted_service import ScriptedService
from tests.support.service_contract import check_stop_contract

SECONDS_MAX = 15.0
STEP_SECONDS = 0.01
ROOT = Path(__file__).parents[3]


class Process:
    """A scripted service in a process of its own."""

    def __init__(self, script: dict[str, str], ready_file: Path, stderr: Path) -> None:
        self.ready_file = ready_file
        self._stderr = stderr
        command = [sys.executable, "-m", "tests.support.scripted_service", json.dumps(script)]
        with stderr.open("wb") as errors:
            self._popen = subprocess.Popen(
                [*command, str(ready_file)], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
            )

    def until(self, step: str) -> None:
        """Wait until the process says that it is there."""
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            if line.decode().strip() == step:
                return
        raise AssertionError(f"it ended before {step}: {self.errors()}")

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def ends(self) -> tuple[int, list[str]]:
        """Its exit code, and the steps nobody has waited for."""
        out, _ = self._popen.communicate(timeout=SECONDS_MAX)
        return self._popen.returncode, out.decode().splitlines()

    def errors(self) -> str:
        return self._stderr.read_text()

    def kill(self) -> None:
        self._popen.kill()
        self._popen.communicate()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """Starts a scripted service; what is left of it is killed."""
    started: list[Process] = []

    def start(**script: str) -> Process:
        started.append(Process(script, tmp_path / "ready", tmp_path / "errors"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(STEP_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_asked_to_stop_drains_stops_and_exits_with_0(
    start: Start, number: signal.Signals
) -> None:
    process = start()
    wait_for(process.ready_file.exists)
    process.send(number)
    assert process.ends() == (0, ["start", "drain", "stop"])


def test_who_has_failed_drains_stops_and_exits_with_1(start: Start) -> None:
    process = start(failed="the consumer died")
    assert process.ends() == (1, ["start", "drain", "stop"])
    assert "the consumer died" in process.errors()


def test_who_cannot_start_stops_and_exits_with_an_error(start: Start) -> None:
    process = start(start="raise")
    code, steps = process.ends()
    assert (code != 0, steps) == (True, ["start", "stop"])
    assert "start does not work" in process.errors()


def test_a_drain_is_cut_short_and_stop_still_runs(start: Start) -> None:
    process = start(drain="hang")
    wait_for(process.ready_file.exists)
    process.send(signal.SIGTERM)
    assert process.ends() == (0, ["start", "drain", "drain cancelled", "stop"])
    assert "drain cut short" in process.errors()


def test_a_failure_stays_a_failure_when_its_drain_is_cut_short(start: Start) -> None:
    assert start(failed="broken", drain="hang").ends()[0] == 1


def test_a_drain_that_fails_does_not_keep_stop_from_running(start: Start) -> None:
    process = start(drain="raise")
    wait_for(process.ready_file.exists)
    process.send(signal.SIGTERM)
    code, steps = process.ends()
    assert (code != 0, steps) == (True, ["start", "drain", "stop"])


def test_a_stop_that_hangs_does_not_keep_the_process(start: Start) -> None:
    process = start(stop="hang")
    wait_for(process.ready_file.exists)
    process.send(signal.SIGTERM)
    assert process.ends() == (0, ["start", "drain", "stop", "stop cancelled"])


def test_who_is_asked_to_stop_while_starting_does_not_start(start: Start) -> None:
    process = start(start="hang")
    process.until("start")
    process.send(signal.SIGTERM)
    assert process.ends() == (0, ["start cancelled", "stop"])


def test_who_is_asked_again_hurries_and_still_drains(start: Start) -> None:
    process = start(drain="slow")
    wait_for(process.ready_file.exists)
    process.send(signal.SIGTERM)
    process.until("drain")
    process.send(signal.SIGTERM)
    process.until("hurry")
    process.send(signal.SIGINT)
    assert process.ends() == (0, ["hurry", "stop"])


def test_the_ready_file_is_touched_while_ready_and_gone_before_the_drain(start: Start) -> None:
    process = start()
    wait_for(process.ready_file.exists)
    first = process.ready_file.stat().st_mtime_ns
    wait_for(lambda: process.ready_file.stat().st_mtime_ns > first)
    process.send(signal.SIGTERM)
    _, steps = process.ends()
    assert "still looks ready" not in steps
    assert not process.ready_file.exists()


def test_who_is_not_ready_has_no_ready_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ready").touch()  # left behind by an earlier life
    process = start(is_ready="no")
    wait_for(lambda: not process.ready_file.exists())
    process.send(signal.SIGTERM)
    assert process.ends()[0] == 0


def test_who_starts_removes_the_ready_file_of_an_earlier_life(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    process = start(start="hang")
    process.until("start")
    assert not process.ready_file.exists()


def test_a_readiness_that_breaks_is_a_failure(start: Start) -> None:
    process = start(is_ready="raise")
    code, steps = process.ends()
    assert code != 0
    assert steps[-1] == "stop"
    assert not process.ready_file.exists()


async def test_the_contract_of_stop() -> None:
    services: list[ScriptedService] = []

    def make() -> ScriptedService:
        services.append(ScriptedService())
        return services[-1]

    await check_stop_contract(make)
    assert [service.steps[-1] for service in services] == ["stop", "stop"]
