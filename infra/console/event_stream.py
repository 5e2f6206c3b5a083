"""Server-Sent Events (WHATWG HTML §9.2), from bytes as they arrive. No I/O.

Lines end with LF or CRLF, as every server writes them; a CR alone ends none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.console.errors import StreamBroken

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024  # the longest answer is far below it


@dataclass(frozen=True, slots=True)
class Frame:
    """One event. ``cursor`` is its `id:`, ``retry_ms`` what the server asks a client to wait."""

    event: str
    data: str
    cursor: str | None
    retry_ms: int | None


class FrameReader:
    """Bytes in, whole frames out; comments are nothing but a sign of life."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete by now. Raises StreamBroken for one without end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > FRAME_BYTES_MAX:
            raise StreamBroken("an event is too long")
        frames: list[Frame] = []
        for line in lines:
            if line in (b"", b"\r"):
                frames += self._complete()
            else:
                self._take(line.removesuffix(b"\r").decode(errors="replace"))
        return frames

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data" and "data" in self._fields:
            value = f"{self._fields['data']}\n{value}"
        self._fields[name] = value

    def _complete(self) -> list[Frame]:
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return []
        retry = fields.get("retry", "")
        return [
            Frame(
                event=fields.get("event", "message"),
                data=fields["data"],
                cursor=fields.get("id"),
                retry_ms=int(retry) if retry.isascii() and retry.isdigit() else None,
            )
        ]
