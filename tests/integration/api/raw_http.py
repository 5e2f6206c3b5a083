"""A client that says what it wants, byte by byte, and hears all that comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

ANSWER_SECONDS_MAX = 10.0
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Z]")


@dataclass(frozen=True)
class Heard:
    """All that came until the end of the connection."""

    text: bytes

    @property
    def statuses(self) -> list[int]:
        """Of every answer, in order. No body of ours holds a line like this."""
        return [int(status) for status in _STATUS_LINE.findall(self.text)]


async def tell(url: str, *pieces: bytes) -> Heard:
    """What the server answers until it closes the connection, which it must."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    heard = bytearray()
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            with suppress(ConnectionError):
                await _send(writer, pieces)
            with suppress(ConnectionError):
                while some := await reader.read(65_536):
                    heard += some
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Heard(bytes(heard))


async def _send(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
