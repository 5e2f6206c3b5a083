"""Commands: requests to change something, which may be refused. Imperative names.

``RunJob`` waits in the partition's command stream until its job is done; ``CancelJob`` is flagged
in the job's hash and published to the worker that runs it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from shared.events import Attachment, Frozen, Metadata

OnBusy = Literal["enqueue", "reject", "interrupt"]


class RunJob(Frozen, frozen=True):
    """Answer one message. Self-contained: a worker needs nothing else but the thread's history."""

    type: Literal["RunJob"] = "RunJob"
    v: int = 1
    job_id: str
    thread_id: str
    message_id: str
    reply_id: str
    user: str
    agent: str
    content: str
    metadata: Metadata = Field(default_factory=dict)
    trace_id: str
    session_id: str | None = None
    replaces: str | None = None
    replaced_position: int | None = None
    attachments: tuple[Attachment, ...] = ()
    at: str


class CancelJob(Frozen, frozen=True):
    """Stop a job and keep what it has said so far."""

    type: Literal["CancelJob"] = "CancelJob"
    v: int = 1
    job_id: str


Command = Annotated[RunJob | CancelJob, Field(discriminator="type")]
