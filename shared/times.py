"""Times as the wire has them: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(moment: datetime) -> str:
    """The one way a time is written. ``moment`` knows its zone."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_seconds(at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()


def utc_now() -> str:
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    """Most of a time is that of the time before."""
    return rfc3339(datetime.fromtimestamp(seconds, UTC)).removesuffix(".000Z")
