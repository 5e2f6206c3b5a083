"""The state machines, as data. Lua checks them, the docs draw them, a test compares both.

Each is a chain: a thing only ever moves to the right, and may skip states it was too quick to be
seen in.
"""

from __future__ import annotations

from typing import Final, Literal

ThreadState = Literal["CREATING", "PENDING", "PROCESSING", "ACTIVE", "DELETING", "DELETED"]
MessageState = Literal["COMPOSING", "PENDING", "PROCESSING", "SENT", "DELETING", "DELETED"]

THREAD_STATES: Final[tuple[ThreadState, ...]] = (
    "CREATING",  # the client's request has not reached the log
    "PENDING",  # in the log
    "PROCESSING",  # in a persister's batch
    "ACTIVE",  # committed in Postgres
    "DELETING",  # its deletion is in the log
    "DELETED",  # its deletion is committed in Postgres
)
MESSAGE_STATES: Final[tuple[MessageState, ...]] = (
    "COMPOSING",  # being written or generated
    "PENDING",  # in the log
    "PROCESSING",  # in a persister's batch
    "SENT",  # committed in Postgres
    "DELETING",  # its deletion is in the log
    "DELETED",  # its deletion is committed in Postgres
)
JOB_STATUSES: Final = ("queued", "running", "done", "failed", "cancelled")
FINAL_STATUSES: Final = frozenset({"done", "failed", "cancelled"})
TRANSITIONS_SECONDS: Final = 24 * 3600  # that every step of every machine is kept
TRANSITIONS_MAX: Final = 100_000  # of a partition, however young: about 14 MB


def ranks() -> dict[str, dict[str, int]]:
    """How far each state of a thread, message and job is: a step must lead to a higher rank."""
    last = len(JOB_STATUSES)
    return {
        "thread": {state: rank for rank, state in enumerate(THREAD_STATES)},
        "message": {state: rank for rank, state in enumerate(MESSAGE_STATES)},
        "job": {
            status: last if status in FINAL_STATUSES else rank
            for rank, status in enumerate(JOB_STATUSES)
        },
    }


def may_advance(chain: tuple[str, ...], state: str, target: str) -> bool:
    """Whether a thing in ``state`` may move to ``target``: only onward, never back."""
    return chain.index(target) > chain.index(state)


def message_state(position: int, *, processing: int, archived: int) -> MessageState:
    """The state of a message whose event has this position, from the persister's progress."""
    if position <= archived:
        return "SENT"
    return "PROCESSING" if position <= processing else "PENDING"
