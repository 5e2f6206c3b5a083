"""`transitions ID`: how a thread, a message or a job has come to be in its state."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing

from infra.console.errors import BadArguments
from infra.console.letter_text import one_line
from shared.ids import is_job_id, is_message_id, is_thread_id, partition_of, partition_of_thread
from shared.redis_client import connect
from shared.settings import Settings
from shared.transitions import Step, Transitions


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("thing", metavar="ID", help="of a thread, a message or a job")


async def show(thing: str, settings: Settings) -> int:
    """A line for each step; exit code 1 when there is none. Raises HeadwaterError."""
    partition = _partition(thing, settings.partitions)
    redis = connect(settings.required("redis_url"))
    count = 0
    try:
        async with aclosing(Transitions(redis).of(thing, partition)) as steps:
            async for step in steps:
                count += 1
                sys.stdout.write(f"{_line(step)}\n")
    finally:
        await redis.aclose()
    if count == 0:
        sys.stderr.write(f"no step of {thing} is known: they are kept for a day\n")
    return 0 if count else 1


def _partition(thing: str, partitions: int) -> int:
    """Where the steps of this thing are. Raises BadArguments."""
    if is_thread_id(thing):
        return partition_of_thread(thing, partitions)
    if is_job_id(thing) or is_message_id(thing):
        return partition_of(thing)
    raise BadArguments(f"{one_line(thing)!r} is the id of no thread, message or job")


def _line(step: Step) -> str:
    at = step.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{at}  {step.id}  {step.source or '·'} → {step.target}  {one_line(step.by)}"
