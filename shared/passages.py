"""Passages of the files of a thread that speak of a question: found by terms, ranked by rarity.

A question is no search: nobody expects each of its words in one place. So a passage is found by any
term of the question, and worth the sum of what each of those is worth: the fewer passages of the
thread have a term, the more. Words that are everywhere ("the") weigh next to nothing, in every
language, without a list of them.

    weight of a term   ln(1 + passages of the thread / passages that have it)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from shared.archive import Archive
from shared.search_terms import query_of, tsquery

TERMS_MAX: Final = 48  # of a question: the first ones, each once
FIND_MS_MAX: Final = 2_000
FOUND_MAX: Final = 100

FIND: Final = text("""
WITH wanted AS (
  SELECT DISTINCT term FROM unnest(CAST(:terms AS text[])) AS wanted (term)
), living AS (
  SELECT file_id, name FROM files
  WHERE thread_id = :thread_id AND name IS NOT NULL AND deleted_at IS NULL
    AND NOT EXISTS (
      SELECT FROM threads WHERE threads.thread_id = :thread_id AND deleted_at IS NOT NULL
    )
), hits AS (
  SELECT passage_id, file_id, number, term
  FROM wanted JOIN file_passages ON terms @@ CAST(term AS tsquery)
  WHERE ARRAY[thread_id] @> ARRAY[CAST(:thread_id AS text)]
    AND file_id IN (SELECT file_id FROM living)
), total AS MATERIALIZED (
  SELECT count(*) AS passages FROM file_passages WHERE file_id IN (SELECT file_id FROM living)
), weights AS (
  SELECT term, ln(1 + max(passages)::float8 / count(*)) AS weight
  FROM hits, total GROUP BY term
), best AS (
  SELECT passage_id, file_id, number, sum(weight) AS weight
  FROM hits JOIN weights USING (term)
  GROUP BY passage_id, file_id, number
  ORDER BY weight DESC, file_id, number LIMIT :limit
)
SELECT file_id, name, best.number, text
FROM best JOIN living USING (file_id) JOIN file_passages USING (passage_id, file_id)
ORDER BY best.weight DESC, file_id, best.number
""")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a file's text, about 1,000 characters; ``number`` counts them from 1."""

    file_id: str
    name: str
    number: int
    text: str


async def find_passages(
    archive: Archive, thread_id: str, query: str, *, limit: int
) -> list[Passage]:
    """The passages of a thread's files that speak most of a question, best first.

    None of deleted files or threads, and none when the question has neither letter nor digit. What
    is not yet archived is not found. Raises ArchiveTooSlow, ArchiveUnavailable.
    """
    terms = list(dict.fromkeys(tsquery([part]) for part in query_of(query).parts))[:TERMS_MAX]
    if not terms:
        return []
    wanted = {"terms": terms, "thread_id": thread_id, "limit": min(limit, FOUND_MAX)}
    rows = await archive.mappings_within(FIND_MS_MAX, FIND.bindparams(**wanted))
    return [Passage(row["file_id"], row["name"], row["number"], row["text"]) for row in rows]
