"""Which bytes of a file a request wants (RFC 9110 §14): all, one range, or none that there are."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
Span = tuple[int, int]  # from the first byte up to, and without, the second


class Unsatisfiable(Exception):
    """The range begins behind the end."""


def wanted(header: str | None, if_range: str | None, *, size: int, etag: str) -> Span | None:
    """The one range that is wanted; None: everything. Raises Unsatisfiable.

    Several ranges, other units and what is malformed may be answered with everything, and are. So
    is a range of another state of the file than this one.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), int(last) + 1 if last else size
        if last and int(last) < start:
            return None
    elif last:
        start, end = max(size - int(last), 0), size
    else:
        return None
    if start >= size or start == end:
        raise Unsatisfiable()
    return start, min(end, size)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this state of the file already."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
