"""Has a file looked into by a process that may die of it (``inspector``).

    spooled file ──▶ child, limited ──▶ pixels, thumbnail, passages      the event loop only waits

Failures
    Child killed, out of memory, too slow, talking nonsense: what it said before holds. A file that
    cannot be looked into has neither thumbnail nor text, and is a file all the same.
    Too many files at once: they wait for their turn, at most TURN_SECONDS_MAX.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from services.api import inspector
from services.api.inspector import FORMATS, IMAGE_PIXELS_MAX
from shared.errors import FilesUnavailable, ImageTooLarge
from shared.observability import get_logger

AT_ONCE_MAX: Final = 2  # of one gateway: each may take a processor and a gigabyte
SECONDS_MAX: Final = 20.0  # of one file, whatever it does
TURN_SECONDS_MAX: Final = 60.0
SAID_BYTES_MAX: Final = 4 * 1024 * 1024  # all lines: text, escaped, and a thumbnail
LOOKED_INTO: Final = frozenset({*FORMATS, "application/pdf", "text/plain"})

log = get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a file."""

    thumbnail: bytes | None = None
    passages: Sequence[str] = ()


class Inspection:
    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def look(self, file: BinaryIO, media_type: str) -> Seen:
        """Raises ImageTooLarge, from what an image says of itself; FilesUnavailable: no turn."""
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
        if said.get("pixels", 0) > IMAGE_PIXELS_MAX:
            raise ImageTooLarge(f"An image has at most {IMAGE_PIXELS_MAX:,} pixels.")
        return _seen(said)


async def _said(file: BinaryIO, media_type: str) -> dict[str, Any]:
    """What the child says, all lines as one object."""
    file.seek(0)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(Path(inspector.__file__)), media_type),
        stdin=file.fileno(),
        stdout=PIPE,
        stderr=DEVNULL,
        env={},
        cwd="/",
    )
    lines = bytearray()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await _read(child, lines)
            code = await child.wait()
    except TimeoutError:
        code = None
    finally:
        await _ended(child)
    if code != 0:
        log.info("file not looked into", media_type=media_type, code=code)
    return _facts(bytes(lines))


async def _read(child: Process, lines: bytearray) -> None:
    """All that the child says, up to the bound: behind it nobody listens, and it dies of that."""
    assert child.stdout is not None
    while len(lines) < SAID_BYTES_MAX and (data := await child.stdout.read(1 << 16)):
        lines += data


async def _ended(child: Process) -> None:
    """Also when the caller is cancelled: no child is left behind."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.kill()
    await asyncio.shield(child.wait())


def _facts(lines: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for line in lines.split(b"\n")[:-1]:
        with suppress(ValueError):
            facts |= json.loads(line)
    return facts


def _seen(said: dict[str, Any]) -> Seen:
    try:
        thumbnail = base64.b64decode(said["thumbnail"]) if "thumbnail" in said else None
    except (binascii.Error, TypeError):
        thumbnail = None
    return Seen(thumbnail, said.get("passages", ()))
