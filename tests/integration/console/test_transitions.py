"""`transitions`: how a thing came to be in its state, as an operator reads it."""

from __future__ import annotations

import re

import pytest

from tests.integration.console.program import Program
from tests.integration.persister.writer import USER, Writer

STEP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  (\w+)  (\S+) → (\w+)  (.*)")


def steps(output: str) -> list[tuple[str, ...]]:
    found = [STEP.fullmatch(line) for line in output.splitlines()]
    assert all(found), output
    return [step.groups() for step in found if step]


async def test_the_steps_of_a_job_and_of_its_thread(program: Program, writer: Writer) -> None:
    command = await writer.ask()
    of_job = await program.run("transitions", command.job_id)
    assert (of_job.code, of_job.errors) == (0, "")
    assert set(steps(of_job.output)) == {
        (command.message_id, "COMPOSING", "PENDING", USER),
        (command.job_id, "·", "queued", USER),
    }
    of_thread = await program.run("transitions", command.thread_id)
    assert (command.thread_id, "CREATING", "PENDING", USER) in steps(of_thread.output)
    assert set(steps(of_job.output)) < set(steps(of_thread.output))
    of_message = await program.run("transitions", command.message_id)
    assert steps(of_message.output) == [(command.message_id, "COMPOSING", "PENDING", USER)]


@pytest.mark.parametrize(
    ("thing", "code"),
    [("job_00" + "0" * 32, 1), ("thr_" + "0" * 32, 1), ("nonsense\x1b[2J", 2), ("", 2)],
)
async def test_a_thing_without_steps(
    program: Program, writer: Writer, thing: str, code: int
) -> None:
    ran = await program.run("transitions", thing)
    assert (ran.code, ran.output) == (code, "")
    assert ran.errors
    assert "\x1b" not in ran.errors
