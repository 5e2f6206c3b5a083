"""Two copies of the read model: what differs, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.projection import key_of
from shared.read_model import PROJECTED

EXAMPLES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one table that differ in the same way, with the keys of some."""

    table: str
    how: str  # missing | changed | unfounded
    count: int
    examples: Sequence[str]

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.examples) else ""
        return f"{self.table}: {self.count} {self.how} ({', '.join(self.examples)}{more})"


async def compare(connection: AsyncConnection, live: str, right: str) -> list[Difference]:
    """What is wrong with the tables in the schema ``live``, the ones in ``right`` being right.

    The keys are kept for ``replace`` until the transaction ends.
    """
    found: list[Difference] = []
    for table in PROJECTED:
        await connection.execute(text(_difference(table, live, right)))
        result = await connection.execute(
            text(
                "SELECT how, count(*) AS count,"
                f" (array_agg(key ORDER BY key))[1:{EXAMPLES_MAX}] AS examples"
                f" FROM {_keys(table)} GROUP BY how ORDER BY how"
            )
        )
        found += [Difference(table.name, *row) for row in result.all()]
    return found


async def replace(connection: AsyncConnection, live: str, right: str) -> None:
    """Put the right rows in place of those that ``compare`` found."""
    for table in PROJECTED:
        key, keys = key_of(table), f"(SELECT key FROM {_keys(table)})"
        name = table.name
        await connection.execute(text(f"DELETE FROM {live}.{name} WHERE {key} IN {keys}"))
        rows = f"SELECT * FROM {right}.{name} WHERE {key} IN {keys}"
        await connection.execute(text(f"INSERT INTO {live}.{name} {rows}"))


def _difference(table: Table, live: str, right: str) -> str:
    key = key_of(table)
    return f"""
CREATE TEMPORARY TABLE {_keys(table)} ON COMMIT DROP AS
SELECT {key} AS key,
       CASE WHEN was.{key} IS NULL THEN 'missing'
            WHEN should.{key} IS NULL THEN 'unfounded'
            ELSE 'changed' END AS how
FROM {live}.{table.name} AS was FULL JOIN {right}.{table.name} AS should USING ({key})
WHERE row(was.*) IS DISTINCT FROM row(should.*)
"""


def _keys(table: Table) -> str:
    return f"different_{table.name}"
