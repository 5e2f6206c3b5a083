"""How parts are started, kept and stopped, with parts that are a line of shell."""

import signal
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from infra.local.errors import PartError
from infra.local.keeper import CRASH_LOOP_DEATHS
from infra.local.machine import process_mark
from infra.local.part import Part, PartState
from infra.local.supervisor import Supervisor
from tests.integration.local.waiting import until


def shell(folder: Path, name: str, script: str, **options: object) -> Part:
    part = Part(
        name=name,
        command=("/bin/sh", "-c", script),
        log=folder / f"{name}.log",
        cwd=folder,
        ready=(folder / f"{name}.ready").exists,
        ready_seconds_max=10.0,
        stop_seconds_max=5.0,
    )
    return replace(part, **options)  # pyright: ignore[reportArgumentType] -- fields of Part


def steady(folder: Path, name: str, **options: object) -> Part:
    """Writes what happens to it to `story`."""
    script = (
        f"trap 'echo {name} stops >> story; exit 0' TERM; echo {name} starts >> story;"
        f" touch {name}.ready; while :; do sleep 0.05; done"
    )
    return shell(folder, name, script, **options)


def test_starts_in_order_and_stops_in_reverse(tmp_path: Path) -> None:
    parts = [
        steady(tmp_path, "first"),
        shell(tmp_path, "once", "sleep 0.2; echo once >> story", after=("first",), once=True),
        steady(tmp_path, "second", after=("once",)),
    ]
    with Supervisor(parts) as supervisor:
        states = {keeper.part.name: keeper.state for keeper in supervisor.keepers}
        assert states == {
            "first": PartState.READY,
            "once": PartState.DONE,
            "second": PartState.READY,
        }
    story = (tmp_path / "story").read_text().splitlines()
    assert story == ["first starts", "once", "second starts", "second stops", "first stops"]


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    with Supervisor([steady(tmp_path, "part")]) as supervisor:
        before = supervisor.pid("part")
        keeper = supervisor.keeper("part")
        supervisor.kill("part")
        until(lambda: keeper.restarts == 1 and keeper.state is PartState.READY)
        assert supervisor.pid("part") != before


def test_a_crash_loop_is_shown_and_slows_down(tmp_path: Path) -> None:
    script = "date +%s.%N >> tries; test -e again && exit 7; touch again part.ready; exec sleep 60"
    with Supervisor([shell(tmp_path, "part", script)]) as supervisor:
        keeper = supervisor.keeper("part")
        supervisor.kill("part")
        until(lambda: keeper.state is PartState.CRASH_LOOP)
        assert keeper.deaths_in_a_row >= CRASH_LOOP_DEATHS
        assert keeper.restarts < CRASH_LOOP_DEATHS
    tries = [float(moment) for moment in (tmp_path / "tries").read_text().split()]
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits[-1] > 2 * waits[0]


def test_a_part_that_never_gets_ready_stops_the_others(tmp_path: Path) -> None:
    silent = shell(tmp_path, "silent", "exec sleep 60", ready_seconds_max=0.5)
    supervisor = Supervisor([steady(tmp_path, "first"), silent])
    with pytest.raises(PartError, match=r"silent: was not ready within 0\.5 s"):
        supervisor.start()
    for name in ("first", "silent"):
        with pytest.raises(ProcessLookupError):
            supervisor.pid(name)


def test_a_part_that_ends_at_once_is_tried_a_few_times(tmp_path: Path) -> None:
    supervisor = Supervisor([shell(tmp_path, "part", "echo try >> story; exit 3")])
    with pytest.raises(PartError, match="part: ended instead of getting ready"):
        supervisor.start()
    assert (tmp_path / "story").read_text() == "try\n" * 3


def test_a_part_that_does_not_stop_is_killed_with_its_group(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $! > child; touch part.ready; while :; do wait; done"
    with Supervisor([shell(tmp_path, "part", script, stop_seconds_max=0.3)]):
        child = int((tmp_path / "child").read_text())
        assert process_mark(child) is not None
    until(lambda: process_mark(child) is None)


def test_a_held_part_stays_down_until_it_is_released(tmp_path: Path) -> None:
    with Supervisor([steady(tmp_path, "part")]) as supervisor:
        keeper = supervisor.keeper("part")
        supervisor.hold("part")
        with pytest.raises(ProcessLookupError):
            supervisor.kill("part", signal.SIGTERM)
        (tmp_path / "part.ready").unlink()
        supervisor.release("part")
        until(lambda: keeper.state is PartState.READY)


def test_replicas_are_named_by_their_kind_only_if_there_is_one(tmp_path: Path) -> None:
    parts = [
        steady(tmp_path, "api-1", kind="api"),
        steady(tmp_path, "worker-1", kind="worker"),
        steady(tmp_path, "worker-2", kind="worker"),
    ]
    with Supervisor(parts) as supervisor:
        assert supervisor.pid("api") == supervisor.pid("api-1")
        with pytest.raises(KeyError):
            supervisor.pid("worker")


def test_parts_live_as_long_as_the_supervisor_not_as_the_thread_that_asked(tmp_path: Path) -> None:
    supervisor = Supervisor([steady(tmp_path, "part")])
    asking = threading.Thread(target=supervisor.start)
    asking.start()
    asking.join()
    try:
        in_the_kernel = Path(f"/proc/self/task/{asking.native_id}")
        until(lambda: not in_the_kernel.exists())
        supervisor.kill("part", signal.SIGCONT)  # would raise if it had ended with that thread
        assert supervisor.keeper("part").restarts == 0
    finally:
        supervisor.stop()
