"""What Python and the scripts say to each other about threads: control arguments and refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shared.errors import IdempotencyMismatch, NotFound, QueueFull, ThreadBusy, TooManyJobs
from shared.events import ThreadCreated
from shared.keys import IDEMPOTENCY_SECONDS, PartitionKeys


class ThreadNotLoaded(Exception):
    """Redis let the thread go: load it from the archive and call again."""


class LetterGone(Exception):
    """The dead letter was retried or dropped before."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's name for a request, and a hash of what it asked."""

    key: str
    fingerprint: str


def creation_control(
    keys: PartitionKeys,
    *,
    user: str,
    thread_id: str,
    at: str,
    create: ThreadCreated | None,
    idempotency: Idempotency | None,
) -> dict[str, Any]:
    """What a script that may create a thread needs. Absent texts are '': Lua has no null."""
    return {
        "prefix": keys.prefix,
        "user": user,
        "thread_id": thread_id,
        "at": at,
        "title": (create and create.title) or "",
        "agent": (create and create.agent) or "",
        "metadata": json.dumps(create.metadata if create else {}),
        "fingerprint": idempotency.fingerprint if idempotency else "",
        "idempotency_ttl": IDEMPOTENCY_SECONDS,
    }


def refusal(code: str) -> Exception:
    """The error that stands for a script's answer."""
    return {
        "NO_THREAD": ThreadNotLoaded(),
        "NO_ACCESS": NotFound(),
        "BUSY": ThreadBusy(),
        "FULL": QueueFull(),
        "NO_ROOM": TooManyJobs(),
        "MISMATCH": IdempotencyMismatch(),
        "GONE": LetterGone(),
    }[code]
