"""What Python and the scripts say to each other about threads: control arguments and refusals."""

from __future__ import annotations

import json
from typing import Any

from shared.errors import (
    NotFound,
    NotTheOwner,
    OwnerStays,
    QueueFull,
    ThreadBusy,
    ThreadCrowded,
    TooManyJobs,
)
from shared.events import ThreadCreated
from shared.keys import PartitionKeys


class ThreadNotLoaded(Exception):
    """Redis let the thread go: load it from the archive and call again."""


class LetterGone(Exception):
    """The dead letter was retried or dropped before."""


def creation_control(
    keys: PartitionKeys,
    *,
    user: str,
    thread_id: str,
    at: str,
    create: ThreadCreated | None,
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
    }


def refusal(code: str) -> Exception:
    """The error that stands for a script's answer."""
    return {
        "NO_THREAD": ThreadNotLoaded(),
        "NO_ACCESS": NotFound(),
        "NOT_OWNER": NotTheOwner(),
        "OWNER_STAYS": OwnerStays(),
        "CROWDED": ThreadCrowded(),
        "BUSY": ThreadBusy(),
        "FULL": QueueFull(),
        "NO_ROOM": TooManyJobs(),
        "GONE": LetterGone(),
    }[code]
