"""Lua scripts: read once, sent by their hash, loaded again wherever a server has forgotten them.

Each file in ``scripts/`` is one atomic operation. ``prelude.lua`` is put behind its ``#!lua`` line;
the hash is taken of the result, so two versions of a service never run each other's code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final, cast

from shared import states
from shared.joint_client import JointRedis
from shared.redis_client import NoScriptError, Redis, RedisError, translate, translated_error

Argument = str | bytes | int | float


def _tables() -> str:
    """What scripts know of shared/states.py, in Lua."""
    kinds = (
        f"{kind} = {{{', '.join(f'{state} = {rank}' for state, rank in chain.items())}}}"
        for kind, chain in states.ranks().items()
    )
    return (
        f"local RANKS = {{{', '.join(kinds)}}}\n"
        f"local TRANSITIONS_SECONDS, TRANSITIONS_MAX ="
        f" {states.TRANSITIONS_SECONDS}, {states.TRANSITIONS_MAX}"
    )


_TABLES: Final = _tables()


class Script:
    """The source of one script, and its SHA-1, which is how Redis knows it."""

    def __init__(self, name: str) -> None:
        folder = files("shared") / "scripts"
        body = (folder / f"{name}.lua").read_text()
        shebang, rest = body.split("\n", 1)
        self.name = name
        self.source = f"{shebang}\n{_TABLES}\n{(folder / 'prelude.lua').read_text()}\n{rest}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Call:
    """A script with its keys and arguments: may be sent any number of times."""

    __slots__ = ("args", "keys", "script")

    def __init__(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> None:
        self.script = script
        self.keys = keys
        self.args = args

    def by_hash(self) -> tuple[Any, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def by_source(self) -> tuple[Any, ...]:
        return ("EVAL", self.script.source, len(self.keys), *self.keys, *self.args)


async def run(redis: Redis, call: Call) -> Any:
    """The script's reply. Raises LogUnavailable."""
    with translate():
        try:
            return await _send(redis, call.by_hash())
        except NoScriptError:
            return await _send(redis, call.by_source())


async def run_many(redis: Redis, calls: Sequence[Call]) -> list[Any]:
    """The replies of several calls sent in one round trip, in order; not atomic together.

    A call that failed leaves its exception in its place; only a connection that breaks raises
    (LogUnavailable), and then any of the calls may have been carried out.
    """
    with translate():
        replies = await _send_all(redis, [call.by_hash() for call in calls])
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            replies[index] = await _source_again(redis, calls[index])
        elif isinstance(reply, RedisError):
            replies[index] = translated_error(reply)
    return replies


async def _send_all(redis: Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
    if isinstance(redis, JointRedis):
        return await redis.carry_out(commands)
    pipeline = cast("Any", redis.pipeline(transaction=False))
    for command in commands:
        pipeline.execute_command(*command)
    return await pipeline.execute(raise_on_error=False)


async def _source_again(redis: Redis, call: Call) -> Any:
    """The reply to a script the server had forgotten, or its error."""
    try:
        return await _send(redis, call.by_source())
    except RedisError as error:
        return translated_error(error)


async def _send(redis: Redis, command: tuple[Any, ...]) -> Any:
    """The driver's types say nothing about a script's reply."""
    return await cast("Any", redis).execute_command(*command)
