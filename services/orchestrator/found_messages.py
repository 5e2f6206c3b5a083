"""Earlier messages of a thread that say something on a question, from Postgres.

A question is not a search: hardly any message has all of its words. So any word will do, and counts
the more the fewer messages have it; a word that many have says nothing.

    words of the question ──▶ which of them has each message? ──▶ rarest words first ──▶ best ones

What is not to be shown to a model is not found: deleted turns, and those that a later question has
replaced. Texts are read as the search reads them (``shared.search_terms``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Text

from services.orchestrator.graph.recollection import Hidden
from shared.archive import Archive
from shared.search_terms import is_paired, terms_of

FIND_MS_MAX: Final = 800
TERMS_MAX: Final = 24  # of a question: the first ones
MESSAGES_MAX: Final = 2_000  # that are looked through: the newest ones
COMMON_SHARE: Final = 4  # a term that more than one in so many messages have says nothing,
FEW: Final = 8  # unless there are hardly any messages
EXCERPT_CHARS_MAX: Final = 600
BEFORE_SHARE: Final = 4  # of an excerpt, in front of the first word that was found

# MATERIALIZED: of a thread that has just grown Postgres expects one message, and would read anew
# for each of a thousand what is read once (measured: 280 ms instead of 10).
_FIND: Final = text(f"""
WITH replacing AS MATERIALIZED (
  SELECT position, replaced_position FROM messages
  WHERE thread_id = :thread_id AND replaced_position IS NOT NULL AND deleted_at IS NULL
    AND position <= :question AND job_id <> ALL(:cut)
  UNION ALL SELECT * FROM unnest(:positions, :replaced)
), said AS (
  SELECT said.message_id, said.role, said.position, said.content, said.terms
  FROM messages AS asked JOIN messages AS said USING (job_id)
  WHERE asked.thread_id = :thread_id AND asked.role = 'user' AND asked.position < :before
    AND said.role IS NOT NULL AND asked.job_id <> ALL(:cut)
    AND NOT EXISTS (
      SELECT FROM messages AS other
      WHERE other.job_id = asked.job_id AND other.deleted_at IS NOT NULL
    )
    AND NOT EXISTS (
      SELECT FROM replacing
      WHERE asked.position < replacing.position AND asked.position >= replacing.replaced_position
    )
  ORDER BY asked.position DESC LIMIT {MESSAGES_MAX}
), had AS (
  SELECT said.position, term FROM said, unnest(:terms) AS term WHERE said.terms @@ term::tsquery
), total AS MATERIALIZED (
  SELECT count(*) FROM said
), telling AS MATERIALIZED (
  SELECT term, ln(1 + total.count::float8 / count(*)) AS weight
  FROM had, total
  GROUP BY term, total.count
  HAVING count(*) * {COMMON_SHARE} <= total.count OR total.count < {FEW}
), best AS MATERIALIZED (
  SELECT position, sum(weight) AS weight FROM had JOIN telling USING (term)
  GROUP BY position ORDER BY sum(weight) DESC, position DESC LIMIT :limit
)
SELECT said.message_id, said.role, said.content, position
FROM best JOIN said USING (position)
ORDER BY weight DESC, position DESC
""").bindparams(
    *(bindparam(name, type_=ARRAY(Text)) for name in ("cut", "terms")),
    *(bindparam(name, type_=ARRAY(BigInteger)) for name in ("positions", "replaced")),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which messages are looked through: of turns in front of ``before``.

    ``question`` is the position of the question that is answered: what it replaces is not found.
    """

    thread_id: str
    question: int
    before: int
    hidden: Hidden


@dataclass(frozen=True, slots=True)
class FoundMessage:
    message_id: str
    role: Literal["user", "assistant"]
    position: int
    excerpt: str


async def find_messages(
    archive: Archive, place: Place, question: str, *, limit: int
) -> list[FoundMessage]:
    """The messages that have most to do with a question, best first.

    Raises ArchiveUnavailable; ArchiveTooSlow after FIND_MS_MAX.
    """
    terms = telling_terms(question)
    if not terms:
        return []
    replaced = place.hidden.replaced
    values = {
        "thread_id": place.thread_id,
        "question": place.question,
        "before": place.before,
        "cut": list(place.hidden.jobs),
        "positions": [position for position, _ in replaced],
        "replaced": [since for _, since in replaced],
        "terms": [f"'{term}'" for term in terms],
        "limit": limit,
    }
    rows = await archive.mappings_within(FIND_MS_MAX, _FIND.bindparams(**values))
    return [
        FoundMessage(
            row["message_id"], row["role"], row["position"], excerpt(row["content"], terms)
        )
        for row in rows
    ]


def telling_terms(question: str) -> list[str]:
    """The terms to look for, each once; a single character of a run is in its pairs already."""
    found = (term.term for term in terms_of(question))
    terms = dict.fromkeys(term for term in found if len(term) > 1 or not is_paired(term))
    return list(terms)[:TERMS_MAX]


def excerpt(said: str, terms: Sequence[str]) -> str:
    """A piece of a text around the first place where one of the terms stands."""
    if len(said) <= EXCERPT_CHARS_MAX:
        return said
    wanted = set(terms)
    first = next((term.start for term in terms_of(said) if term.term in wanted), 0)
    start = max(0, min(first - EXCERPT_CHARS_MAX // BEFORE_SHARE, len(said) - EXCERPT_CHARS_MAX))
    end = start + EXCERPT_CHARS_MAX
    return f"{'… ' if start else ''}{said[start:end].strip()}{' …' if end < len(said) else ''}"
