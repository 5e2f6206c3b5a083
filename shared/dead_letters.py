"""The dead letters: what was given up on, why, and what an operator may do about it.

    commands ───── move_command ──▶ {hw:p}:dead ──▶ retry   back where it was taken from
    log ────────── move_event ────▶              ──▶ drop
    append_events, last attempt ──▶              ──▶ a job is over: ask again (``repeat_job``)

A letter with an entry is ``kind reason at entry``, then the entry's own fields to the letter; the
letter of a job is ``kind j h reason at``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from shared.codec import decode_command
from shared.commands import RunJob
from shared.errors import CodecError
from shared.keys import ORCHESTRATORS, PERSISTERS, PartitionKeys
from shared.log_protocol import LetterGone
from shared.redis_client import Redis, translate
from shared.redis_scripts import Call, Script, run
from shared.times import utc_now

PAGE_LETTERS: Final = 50  # one may be as large as an event
ENTRY_NUMBER_MAX: Final = 2**64 - 1  # of either half of an entry's id
OF_AN_ENTRY: Final = (b"kind", b"reason", b"at", b"entry")
OF_A_JOB: Final = (b"kind", b"j", b"h", b"reason", b"at")
_LETTER_ID: Final = re.compile(r"([0-9]{1,3}):([0-9]{1,20})-([0-9]{1,20})")

Pairs = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class LetterId:
    """Where a letter is. As text: ``<partition>:<entry id>``."""

    partition: int
    entry: str

    def __str__(self) -> str:
        return f"{self.partition}:{self.entry}"

    @property
    def keys(self) -> PartitionKeys:
        return PartitionKeys(self.partition)

    @classmethod
    def parse(cls, text: str, *, partitions: int) -> LetterId:
        """Raises ValueError, with the reason."""
        found = _LETTER_ID.fullmatch(text)
        if found is None:
            raise ValueError("one looks like 3:1790000000000-0")
        partition, milliseconds, number = map(int, found.groups())
        if partition >= partitions:
            raise ValueError(f"partitions are 0 to {partitions - 1}")
        if max(milliseconds, number) > ENTRY_NUMBER_MAX:
            raise ValueError("no entry has so high a number")
        return cls(partition, f"{milliseconds}-{number}")


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. ``kind`` is job, command, event, or what somebody else wrote.

    Nothing in it can be trusted to be what it should be: that may be why it is here.
    """

    id: LetterId
    kind: str
    reason: str
    at: str
    entry: str | None  # the id it had in its stream
    fields: Pairs  # of the entry; of a job, its ids

    @property
    def written_ms(self) -> int:
        """When it was given up on, by the server's clock."""
        return int(self.id.entry.split("-", 1)[0])

    @property
    def job_id(self) -> str | None:
        stream = self._field(b"j")
        return None if stream == self._field(b"h") else stream

    @property
    def thread_id(self) -> str | None:
        command = self._command() if self.kind == "command" else None
        return command.thread_id if command else self._field(b"h")

    def _field(self, name: bytes) -> str | None:
        return next((_text(value) for field, value in self.fields if field == name), None)

    def _command(self) -> RunJob | None:
        data = next((value for field, value in self.fields if field == b"d"), b"")
        try:
            command = decode_command(data)
        except CodecError:
            return None
        return command if isinstance(command, RunJob) else None


class DeadLetters:
    """Every method raises LogUnavailable. Stateless: any number may work on the same Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._move, self._retry = Script("dead_letter"), Script("retry_letter")

    async def move_command(self, keys: PartitionKeys, entry_id: str, reason: str) -> bool:
        """Take an entry out of the commands for good; False if it was acknowledged before."""
        args = [ORCHESTRATORS, entry_id, "command", reason, utc_now()]
        return bool(await run(self._redis, Call(self._move, [keys.commands, keys.dead], args)))

    async def move_event(self, keys: PartitionKeys, entry_id: str, reason: str) -> bool:
        """Take an entry out of the log for good; False if it was acknowledged before."""
        args = [PERSISTERS, entry_id, "event", reason, utc_now()]
        return bool(await run(self._redis, Call(self._move, [keys.log, keys.dead], args)))

    async def letters(self, keys: PartitionKeys) -> AsyncGenerator[Letter]:
        """The letters of a partition, oldest first, up to the last one there is now.

        So it ends, also when a letter that is retried meanwhile comes back.
        """
        last = await self._last(keys)
        after = "-"
        while last is not None:
            page = await self._range(keys, after, last)
            for letter in page:
                yield letter
            if len(page) < PAGE_LETTERS:
                return
            after = f"({page[-1].id.entry}"

    async def letter(self, letter_id: LetterId) -> Letter | None:
        found = await self._range(letter_id.keys, letter_id.entry, letter_id.entry)
        return found[0] if found else None

    async def retry(self, letter_id: LetterId) -> str | None:
        """Put a letter's entry back into its stream: its new id; None if the letter holds none.

        Raises LetterGone, also when the reply to this very call was lost.
        """
        keys = letter_id.keys
        names, args = [keys.dead, keys.commands, keys.log], [keys.prefix, letter_id.entry]
        code, *facts = await run(self._redis, Call(self._retry, names, args))
        if code == b"GONE":
            raise LetterGone()
        return facts[0].decode() if facts else None

    async def drop(self, letter_id: LetterId) -> bool:
        """Whether it was there."""
        with translate():
            return bool(await self._redis.xdel(letter_id.keys.dead, letter_id.entry))

    async def drop_all(self, keys: PartitionKeys) -> int:
        """Drop what is there now, in one step: how many."""
        last = await self._last(keys)
        if last is None:
            return 0
        milliseconds, number = last.split("-")
        behind = f"{milliseconds}-{int(number) + 1}"
        with translate():
            return await cast("Any", self._redis).xtrim(keys.dead, minid=behind, approximate=False)

    async def _last(self, keys: PartitionKeys) -> str | None:
        with translate():
            found = cast("Any", await self._redis.xrevrange(keys.dead, count=1))
        return found[0][0].decode() if found else None

    async def _range(self, keys: PartitionKeys, first: str, last: str) -> list[Letter]:
        # As bytes, the driver knows no callback for it: its own makes a dict of the fields, in
        # which a field of the entry hides ours of the same name.
        command = (b"XRANGE", keys.dead, first, last, "COUNT", PAGE_LETTERS)
        with translate():
            found = await cast("Any", self._redis).execute_command(*command)
        return [_letter(LetterId(keys.partition, entry.decode()), flat) for entry, flat in found]


def _letter(letter_id: LetterId, flat: Sequence[bytes]) -> Letter:
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    names = tuple(name for name, _ in pairs)
    if names == OF_A_JOB:
        own, fields = pairs, pairs[1:3]
    elif names[: len(OF_AN_ENTRY)] == OF_AN_ENTRY:
        own, fields = pairs[: len(OF_AN_ENTRY)], pairs[len(OF_AN_ENTRY) :]
    else:
        own, fields = [], pairs
    said = {name: _text(value) for name, value in own}
    return Letter(
        letter_id,
        kind=said.get(b"kind", "unknown"),
        reason=said.get(b"reason", ""),
        at=said.get(b"at", ""),
        entry=said.get(b"entry"),
        fields=fields,
    )


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
