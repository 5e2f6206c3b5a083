"""What may leave Redis, and when: the persister's reports, and trimming behind the slowest group.

Nothing is trimmed or expired before it is archived. Expiry is decided by one script on the position
the persister has archived *without hole*; trimming by another on what every group has acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from shared.keys import PartitionKeys
from shared.redis_client import Redis
from shared.redis_scripts import Argument, Call, Script, run, run_many

THREAD_EVENTS_KEPT: Final = 2000  # of a thread in use, for those who resume without Postgres
LOG_ENTRIES_KEPT: Final = 0  # behind the slowest group nothing is needed: Postgres has it


Kind = Literal["processing", "archived"]


@dataclass(frozen=True, slots=True)
class Report:
    """How far threads of a partition have come, and jobs of it that are archived whole."""

    partition: int
    positions: Mapping[str, int]
    finished_jobs: Sequence[str] = ()


class Retention:
    def __init__(self, redis: Redis, *, idle_ttl_seconds: int) -> None:
        self._redis = redis
        self._idle_ttl_seconds = idle_ttl_seconds
        self._report, self._trim = Script("report_progress"), Script("trim_log")

    async def report(
        self,
        partition: int,
        kind: Kind,
        positions: Mapping[str, int],
        *,
        finished_jobs: Sequence[str] = (),
    ) -> None:
        """Tell Redis how far threads have come; ``archived`` lets go what is idle and whole.

        An archived position promises that no event before it is missing in Postgres. Safe to send
        twice or late: positions only rise. Raises LogUnavailable.
        """
        report = Report(partition, positions, finished_jobs)
        await run(self._redis, self._call(kind, report))

    async def report_many(
        self, kind: Kind, reports: Sequence[Report]
    ) -> Sequence[Exception | None]:
        """The same of several partitions in one round trip: what became of each.

        Raises LogUnavailable when nobody knows.
        """
        replies = await run_many(self._redis, [self._call(kind, report) for report in reports])
        return [reply if isinstance(reply, Exception) else None for reply in replies]

    def _call(self, kind: Kind, report: Report) -> Call:
        keys, positions = PartitionKeys(report.partition), report.positions
        args: list[Argument] = [keys.prefix, kind, self._idle_ttl_seconds]
        args += [THREAD_EVENTS_KEPT, len(positions)]
        for thread_id, position in positions.items():
            args += (thread_id, position)
        return Call(self._report, [keys.log], [*args, *report.finished_jobs])

    async def trim(self, partition: int) -> int:
        """Cut the partition's log behind its slowest group; the number of entries removed."""
        call = Call(self._trim, [PartitionKeys(partition).log], [LOG_ENTRIES_KEPT])
        return int(await run(self._redis, call))
