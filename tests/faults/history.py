"""What happened in one test, as JSON lines, so that a failed run can be checked again.

Every record has `t`, seconds since the test began, and `kind`:

| kind     | facts                                                            | written by |
|----------|------------------------------------------------------------------|------------|
| row      | name, seed                                                       | arena      |
| expect   | status, codes, waived: what this row does not hold to the rules  | arena      |
| fate     | job_id, status: how this job ends, and not as others do          | arena      |
| fault    | name, phase (begin, end)                                         | nemeses    |
| request  | user, gateway, method, path, key, body, thread_id, status or error … | workload |
| connect  | viewer, connection, job_id, gateway, after                       | workload   |
| event    | viewer, connection, event                                        | workload   |
| cut      | viewer, connection, why                                          | workload   |
| restart  | viewer, connection: what it was given up to there is void        | workload   |
| loss     | bytes, forgotten: the accepted jobs that nobody knows after it; known | lost_tail |
| quiet    | groups: [{group, partition, pending, unread}], seconds           | collect    |
| tail     | status of one of the last three questions                        | collect    |
| job      | job_id, status (HTTP), body                                      | collect    |
| suffix   | job_id, gateway, via (json, sse), after, events                  | collect    |
| redis    | thread_id, entries: [{position, stream, seq, data}]              | collect    |
| archive  | thread_id, entries: as redis; the events in Postgres             | collect    |
| message  | job_id, content, status: the answer in Postgres                  | collect    |
| owned    | user, job_ids: all the jobs Postgres knows of a user             | collect    |
| dead     | partition, job_ids: the jobs in the dead-letter stream           | collect    |
| rebuild  | exit_code, output                                                | collect    |
| foreign  | path, status, body, missing_status, missing_body                 | collect    |
| traceback | service, text                                                   | collect    |
| memory   | service, bytes: resident                                         | collect    |
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Record = dict[str, Any]


class History:
    """Append-only; every record is on its way to the disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.monotonic()
        self._file = path.open("w", buffering=1)

    def add(self, kind: str, **facts: Any) -> None:
        """Keep one record; the facts must be what JSON can say."""
        seconds = round(time.monotonic() - self._began, 4)
        self._file.write(json.dumps({"t": seconds, "kind": kind, **facts}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def load(path: Path) -> list[Record]:
    """All records of a history, oldest first."""
    with path.open() as file:
        return [json.loads(line) for line in file]
