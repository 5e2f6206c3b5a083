"""What a file is, by its content. Its name and what the client calls it are not asked.

What begins like a binary format is of that format, whatever stands behind; what is none and is
UTF-8 throughout is text, also when it is HTML or SVG: it is never given back as anything else.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, Final

import puremagic

HEAD_BYTES: Final = 8192  # of a file: its format shows there
UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
PDF: Final = "application/pdf"
IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
_UNTYPED: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")  # no text has them; escapes, yes


class TextCheck:
    """Whether bytes that come in pieces are text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._holds = True

    def feed(self, piece: bytes) -> None:
        if self._holds:
            self._holds = self._is_text(piece, final=False)

    def ends(self) -> bool:
        """Whether all of it was, now that it has ended."""
        return self._holds and self._is_text(b"", final=True)

    def _is_text(self, piece: bytes, *, final: bool) -> bool:
        try:
            return _UNTYPED.search(self._decoder.decode(piece, final)) is None
        except UnicodeDecodeError:
            return False


def type_of(head: bytes, *, is_text: bool) -> str:
    """The media type of a file that begins so."""
    known = _by_signature(head)
    if known in IMAGES or known == PDF:
        return known
    if is_text:
        return TEXT
    return UNKNOWN if known.startswith("text/") else known  # what begins like text, and is none


def _by_signature(head: bytes) -> str:
    """The likeliest type of a binary format."""
    try:
        found: Any = puremagic.magic_string(head)  # pyright: ignore[reportUnknownMemberType] -- half typed
    except (puremagic.PureError, ValueError):  # no format known, or nothing to look at
        return UNKNOWN
    return next((str(match.mime_type) for match in found if match.mime_type), UNKNOWN)
