"""The command line: `python -m infra.console tail|replay JOB`, `transitions ID`, `dead-letters …`.

Exit code 1: it cannot be shown or done; 2: what was typed makes no sense.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

import aiohttp
from rich.console import Console

from infra.console import dead_letters, transitions
from infra.console.access import access_to
from infra.console.errors import BadArguments
from infra.console.follow import Event, Follower
from infra.console.pace import Pace
from infra.console.screen import Screen
from shared.errors import HeadwaterError
from shared.settings import Settings, load_settings

SPEED_MAX = 1000.0
INTERRUPTED = 130  # what a shell answers after Ctrl-C


def main(arguments: list[str]) -> int:
    """Do what the arguments say: the exit code."""
    asked = parser().parse_args(arguments)
    try:
        return asked.run(asked, load_settings())
    except HeadwaterError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, BadArguments) else 1
    except KeyboardInterrupt:
        return INTERRUPTED


def run_show(asked: argparse.Namespace, settings: Settings) -> int:
    """Show the job that the arguments name. Raises HeadwaterError."""
    console = Console(force_terminal=False if asked.plain else None)
    pace = Pace(asked.speed, clock=time.monotonic, sleep=asyncio.sleep) if asked.speed else None
    screen = Screen(console)
    try:
        asyncio.run(show(asked.job, settings, screen, pace))
    finally:
        screen.end()
    return 0


def run_dead_letters(asked: argparse.Namespace, settings: Settings) -> int:
    """List, show, retry or drop. Raises HeadwaterError."""
    return asyncio.run(dead_letters.act(asked, settings))


def run_transitions(asked: argparse.Namespace, settings: Settings) -> int:
    """Show how a thing came to be in its state. Raises HeadwaterError."""
    return asyncio.run(transitions.show(asked.thing, settings))


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    top = argparse.ArgumentParser(
        prog="python -m infra.console",
        description="A job's events in a terminal, and what was given up on.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, text in (
        ("tail", "follow a job to its end, as it happens"),
        ("replay", "play a job's events again, at their own pace"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("job", metavar="JOB", help="a job id, whoever owns the job")
        command.add_argument("-", "--plain", action="store_true", help="as in a pipe: no colours")
        command.set_defaults(speed=None, run=run_show)
        if name == "replay":
            command.add_argument("--speed", type=speed, default=1.0, help="2: twice as fast")
    steps = commands.add_parser("transitions", help="how a thread, message or job has moved")
    transitions.add_arguments(steps)
    steps.set_defaults(run=run_transitions)
    letters = commands.add_parser("dead-letters", help="list, show, retry or drop what is dead")
    dead_letters.add_arguments(letters)
    letters.set_defaults(run=run_dead_letters)
    return top


def speed(text: str) -> float:
    """A factor that time is divided by."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= SPEED_MAX:
        raise argparse.ArgumentTypeError(f"a number above 0, at most {SPEED_MAX:g}")
    return value


async def show(job_id: str, settings: Settings, screen: Screen, pace: Pace | None) -> None:
    """Show a job to its end, live or at a pace. Raises HeadwaterError."""
    access = await access_to(job_id, settings)
    screen.head(access.job)
    async with aiohttp.ClientSession() as session:
        follower = Follower(session, access.url, headers=access.headers, pause=asyncio.sleep)
        async for sight in follower.sights():
            if pace is not None and isinstance(sight, Event):
                await pace.keep(str(sight.data["at"]))
            screen.show(sight)


if __name__ == "__main__":
    # `… | head`: a reader that has had enough ends this command quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
