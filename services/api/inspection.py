"""Has a file looked into by a process that may die of it (``inspector``).

    spooled file ──▶ child, limited ──▶ pixels, thumbnail, passages      the event loop only waits

Failures
    Child killed, out of memory, too slow, talking nonsense: what it said before holds. A file that
    cannot be looked into has neither thumbnail nor text, and is a file all the same.
    Too many files at once: they wait for their turn, at most TURN_SECONDS_MAX.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from services.api import inspector
from services.api.inspector import FORMATS, IMAGE_PIXELS_MAX, PASSAGE_CHARS
from shared.errors import FilesUnavailable, ImageTooLarge
from shared.observability import get_logger

AT_ONCE_MAX: Final = 2  # of one gateway: each may take a processor and a gigabyte
SECONDS_MAX: Final = 20.0  # of one file, whatever it does
END_SECONDS_MAX: Final = 2.0  # of one that has nothing more to say
TURN_SECONDS_MAX: Final = 60.0
SAID_BYTES_MAX: Final = 4 * 1024 * 1024  # all lines: text, escaped, and a thumbnail
PASSAGES_MAX: Final = 1024
LOOKED_INTO: Final = frozenset({*FORMATS, "application/pdf", "text/plain"})

log = get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a file."""

    thumbnail: bytes | None = None
    passages: Sequence[str] = ()


class _Said(BaseModel):
    """What a child may say: it is believed no more than the file."""

    pixels: int = 0
    thumbnail: Base64Bytes | None = None
    passages: list[Annotated[str, Field(max_length=PASSAGE_CHARS)]] = Field(
        default_factory=list[str], max_length=PASSAGES_MAX
    )


class Inspection:
    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def look(self, file: BinaryIO, media_type: str) -> Seen:
        """Raises ImageTooLarge, from what an image says of itself; FilesUnavailable."""
        if media_type not in LOOKED_INTO:
            return Seen()
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise FilesUnavailable("Too many files are being looked into.") from None
        try:
            said = await _said(file, media_type)
        finally:
            self._turns.release()
        if said.pixels > IMAGE_PIXELS_MAX:
            raise ImageTooLarge(f"An image has at most {IMAGE_PIXELS_MAX:,} pixels.")
        return Seen(said.thumbnail, said.passages)


async def _said(file: BinaryIO, media_type: str) -> _Said:
    """What the child says, all lines together."""
    child = await _started(file, media_type)
    lines = bytearray()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await _read(child, lines)
    except TimeoutError:
        log.info("file not looked into in time", media_type=media_type)
    finally:
        await asyncio.shield(_end(child))
    if child.returncode:
        log.info("file not looked into", media_type=media_type, code=child.returncode)
    return _facts(bytes(lines))


async def _started(file: BinaryIO, media_type: str) -> Process:
    """Raises FilesUnavailable: the machine has no room for another process."""
    file.seek(0)
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(Path(inspector.__file__)), media_type),
            stdin=file.fileno(),
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise FilesUnavailable(f"No file can be looked into: {error.strerror}.") from error


async def _read(child: Process, lines: bytearray) -> None:
    """All that the child says, but what is beyond the bound."""
    assert child.stdout is not None
    while len(lines) < SAID_BYTES_MAX and (data := await child.stdout.read(1 << 16)):
        lines += data


async def _end(child: Process) -> None:
    """See the child's end, or make one: whoever still talks then has talked for too long."""
    assert child.stdout is not None
    try:
        async with asyncio.timeout(END_SECONDS_MAX if child.stdout.at_eof() else 0):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS_MAX):
            await child.communicate()


def _facts(lines: bytes) -> _Said:
    said = _Said()
    for line in lines.split(b"\n")[:-1]:
        with suppress(ValidationError):
            more = _Said.model_validate_json(line)
            facts = {name: getattr(more, name) for name in more.model_fields_set}
            said = said.model_copy(update=facts)
    return said
