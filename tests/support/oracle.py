"""What must be true of every finished job, whatever happened to it on the way.

Pure: takes what was recorded, returns the violations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Event = dict[str, Any]


def violations(
    events: Sequence[Event], *, job: dict[str, Any], message: str | None, archived: Sequence[Event]
) -> list[str]:
    """Check one viewer's events against the job, the message and the archive.

    ``job`` is `GET /v1/jobs/{id}`, ``message`` the assistant's content in Postgres, ``archived``
    the job's events there, in order of seq.
    """
    found = stream_violations(events)
    if found:
        return found
    done = events[-1]
    attempt = done["attempt"]
    text = "".join(e["content"] for e in events if e["type"] == "token" and e["attempt"] == attempt)
    if text != done["content"]:
        found.append("the tokens of the last attempt do not join to done.content")
    if message != done["content"]:
        found.append("the message in Postgres differs from done.content")
    if job["content"] != done["content"] or job["status"] != done["status"]:
        found.append("GET of the job differs from done")
    if job["last_seq"] != len(events):
        found.append(f"the job says {job['last_seq']} events, the viewer has {len(events)}")
    if list(archived) != list(events):
        found.append("the archive differs from the stream")
    return found


def stream_violations(events: Sequence[Event]) -> list[str]:
    """seq 1..n once each, attempt never decreasing, one done and it is last."""
    found: list[str] = []
    seqs = [event["seq"] for event in events]
    if seqs != list(range(1, len(events) + 1)):
        found.append(f"seqs are not 1..n: {seqs}")
    attempts = [event["attempt"] for event in events]
    if attempts != sorted(attempts):
        found.append(f"attempts decrease: {attempts}")
    ends = [index for index, event in enumerate(events) if event["type"] == "done"]
    if ends != [len(events) - 1]:
        found.append(f"done stands at {ends} of {len(events)}")
    return found
