"""The operator's desk for dead letters: list, show, retry, drop. Says each step once it is done."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from infra.console.errors import BadArguments
from infra.console.letter_text import as_json, as_line, as_page, one_line
from shared.archive import Archive
from shared.dead_letters import DeadLetters, Letter, LetterId
from shared.errors import QueueFull
from shared.keys import PartitionKeys
from shared.log_protocol import LetterGone
from shared.postgres import Database, create_engine
from shared.redis_client import connect
from shared.repeat_job import JobRepeats, Unrepeatable
from shared.settings import Settings

NONE: Final = "none"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """`[list] [--json]`, `show ID [--json]`, `retry ID…|--all`, `drop ID…|--all`."""
    as_json_too = argparse.ArgumentParser(add_help=False)
    as_json_too.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("ids", metavar="ID", nargs="*", help="a letter's id, as the list has it")
    chosen.add_argument("--all", action="store_true", help="every letter there is now")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(act="list", ids=[], all=False)
    actions = command.add_subparsers(metavar="ACTION")
    actions.add_parser("list", parents=[as_json_too], help="a line for each letter (the default)")
    show = actions.add_parser("show", parents=[as_json_too], help="all that one letter holds")
    show.add_argument("ids", metavar="ID", nargs=1)
    actions.add_parser("retry", parents=[chosen], help="try again what it holds")
    actions.add_parser("drop", parents=[chosen], help="forget it")
    for name, action in actions.choices.items():
        action.set_defaults(act=name)


async def act(asked: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked: the exit code. Raises HeadwaterError, BadArguments first of all."""
    ids = _ids(asked, settings)
    async with _desk(settings) as desk:
        match asked.act:
            case "show":
                return await desk.show(ids[0], as_json_text=asked.json)
            case "retry":
                return await (desk.retry_all() if asked.all else desk.retry(ids))
            case "drop":
                return await (desk.drop_all() if asked.all else desk.drop(ids))
            case _:
                return await desk.list(as_json_text=asked.json)


@dataclass(frozen=True, slots=True)
class Desk:
    """Every method gives an exit code: 1 when a letter was not there, or could not be retried."""

    letters: DeadLetters
    repeats: JobRepeats
    partitions: int

    async def list(self, *, as_json_text: bool) -> int:
        count = 0
        async with aclosing(self._all()) as letters:
            async for letter in letters:
                if as_json_text:
                    _say(("[\n" if count == 0 else ",\n") + as_json(letter), end="")
                else:
                    _say(as_line(letter, now_ms=_now_ms()))
                count += 1
        if as_json_text:
            _say("\n]" if count else "[]")
        elif not count:
            _say(NONE)
        return 0

    async def show(self, letter_id: LetterId, *, as_json_text: bool) -> int:
        letter = await self.letters.letter(letter_id)
        if letter is None:
            return _gone(letter_id)
        _say(as_json(letter) if as_json_text else as_page(letter, now_ms=_now_ms()))
        return 0

    async def retry(self, ids: Iterable[LetterId]) -> int:
        code = 0
        for letter_id in ids:
            letter = await self.letters.letter(letter_id)
            code |= _gone(letter_id) if letter is None else await self._retry(letter)
        return code

    async def retry_all(self) -> int:
        code, count = 0, 0
        async with aclosing(self._all()) as letters:
            async for letter in letters:
                code |= await self._retry(letter)
                count += 1
        if not count:
            _say(NONE)
        return code

    async def drop(self, ids: Iterable[LetterId]) -> int:
        code, count = 0, 0
        for letter_id in ids:
            if await self.letters.drop(letter_id):
                count += 1
            else:
                code = _gone(letter_id)
        _say(f"{count} dropped")
        return code

    async def drop_all(self) -> int:
        counts = [await self.letters.drop_all(keys) for keys in self._keys()]
        _say(f"{sum(counts)} dropped")
        return 0

    async def _retry(self, letter: Letter) -> int:
        try:
            done = await self._tried_again(letter)
        except LetterGone:
            return _gone(letter.id)
        except (Unrepeatable, QueueFull) as error:
            return _complain(f"{letter.id} stays: {error}")
        _say(f"{letter.id} {done}")
        return 0

    async def _tried_again(self, letter: Letter) -> str:
        if letter.kind == "job":
            accepted = await self.repeats.repeat(letter)
            return f"{letter.job_id} asked again: {accepted.job_id} in {accepted.thread_id}"
        entry_id = await self.letters.retry(letter.id)
        if entry_id is None:
            raise Unrepeatable(f"nobody knows how to retry the kind {one_line(letter.kind)!r}")
        place = "the commands" if letter.kind == "command" else "the log"
        return f"{letter.kind} put back into {place} as {entry_id}"

    async def _all(self) -> AsyncGenerator[Letter]:
        for keys in self._keys():
            async with aclosing(self.letters.letters(keys)) as letters:
                async for letter in letters:
                    yield letter

    def _keys(self) -> Iterable[PartitionKeys]:
        return map(PartitionKeys, range(self.partitions))


@asynccontextmanager
async def _desk(settings: Settings) -> AsyncGenerator[Desk]:
    redis = connect(settings.required("redis_url"))
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(replace(database, connections=1), application="console")
    repeats = JobRepeats(
        redis,
        Archive(engine),
        partitions=settings.partitions,
        queue_max=settings.queue_per_thread_max,
        idle_ttl_seconds=settings.idle_ttl_seconds,
    )
    try:
        yield Desk(DeadLetters(redis), repeats, settings.partitions)
    finally:
        await engine.dispose()
        await redis.aclose()


def _ids(asked: argparse.Namespace, settings: Settings) -> list[LetterId]:
    """The letters that were named, each once. Raises BadArguments."""
    if asked.act in ("retry", "drop") and bool(asked.ids) == asked.all:
        raise BadArguments(f"{asked.act}: which letters? Their ids, or --all")
    ids: dict[LetterId, None] = {}
    for text in asked.ids:
        try:
            ids[LetterId.parse(text, partitions=settings.partitions)] = None
        except ValueError as error:
            raise BadArguments(f"{one_line(text)!r} is no letter's id: {error}") from None
    return list(ids)


def _say(text: str, *, end: str = "\n") -> None:
    sys.stdout.write(text + end)


def _complain(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


def _gone(letter_id: LetterId) -> int:
    return _complain(f"there is no letter {letter_id}, or no more")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
