"""What stands for the beginning of a thread when not all of it fits into the model's window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """In place of the turns whose question stands at ``upto`` or before, as they were at ``as_of``.

    Void once one of them has changed: answered late, deleted, or replaced by a later question.
    """

    content: str
    upto: int
    as_of: int


def summary_from(row: Any) -> Summary:
    """From a row of the read model, as a mapping by column name."""
    said = row["summary"]
    return Summary(said["content"], said["upto"], said["as_of"])
