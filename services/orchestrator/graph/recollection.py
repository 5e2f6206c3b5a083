"""What is known of a thread before a question: its turns, and what has changed among them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.archive import Turn
from shared.summaries import Summary


@dataclass(frozen=True, slots=True)
class Hidden:
    """What nobody is to be shown although the archive does not say so yet.

    The turns of ``jobs``, of which a message was deleted; and per pair of ``replaced``, which are
    positions, those in front of the first one, where a question stands, from the second one on.
    """

    jobs: frozenset[str] = frozenset()
    replaced: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class History:
    """What was said before a question.

    ``turns`` are those that still stand, oldest first. The rest is what Redis alone may know: the
    ``summary`` that was made last, and which jobs had their answer, or lost a message, and where.
    Everything up to ``as_of`` has been seen, and all up to ``archived`` stands in the archive.
    """

    turns: Sequence[Turn]
    as_of: int
    archived: int = 0
    summary: Summary | None = None
    questions: Mapping[str, int] = field(default_factory=dict[str, int])  # by job: their position
    changes: Sequence[tuple[str, int]] = ()
    hidden: Hidden = Hidden()

    def voids(self, summary: Summary) -> bool:
        """Whether a turn that a summary stands for has changed since, as far as is known here."""
        behind = {job for job, position in self.questions.items() if position > summary.upto}
        changed = {job for job, position in self.changes if position > summary.as_of}
        return not changed <= behind or any(
            since <= summary.upto < position for position, since in self.hidden.replaced
        )
