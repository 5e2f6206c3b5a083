"""Names of files: what is kept of the name that a client sends, and how it is given back.

A name is for people. Nothing is ever opened or stored by it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

NAME_BYTES_MAX: Final = 255  # of UTF-8, as most file systems take
NAMELESS: Final = "file"
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # CRLF, NUL, marks that turn text round
_UNPRINTED: Final = re.compile(r'[^\x20-\x7e]|["%\\]')


def clean_name(name: str | None) -> str:
    """The last part of a path, on one line, without what is not seen; never empty.

    >>> clean_name("C:\\\\fakepath\\\\re\\u202eport\\r\\n.pdf")
    'report.pdf'
    """
    last = re.split(r"[/\\]", name or "")[-1]
    seen = "".join(c for c in unicodedata.normalize("NFC", last) if _is_seen(c))
    seen = " ".join(seen.split()).strip(" .")
    return _shortened(seen) or NAMELESS


def _is_seen(char: str) -> bool:
    return unicodedata.category(char) not in _UNSEEN


def _shortened(name: str) -> str:
    """The name in as many bytes as it may have, with its ending."""
    if len(name.encode()) <= NAME_BYTES_MAX:
        return name
    stem, dot, ending = name.rpartition(".")
    tail = f"{dot}{ending}".encode()
    if not stem or len(tail) > 16:
        stem, tail = name, b""
    head = stem.encode()[: NAME_BYTES_MAX - len(tail)].decode(errors="ignore")
    return head.rstrip() + tail.decode()


def content_disposition(name: str, *, inline: bool) -> str:
    """The header (RFC 6266), with the name as it is (RFC 8187), and in ASCII beside it."""
    kind = "inline" if inline else "attachment"
    plain = _UNPRINTED.sub("_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
