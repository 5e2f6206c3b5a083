"""A token's cost by the rows of the archive: Postgres fills itself, up to what the disk can hold.

The rows are of jobs that have ended, in threads with an owner, without messages; their ids are
spread over the indexes as random ones are.
"""

from __future__ import annotations

import shutil

import psycopg
import uvloop

from tests.bench.growth import Growth, Point, described, point
from tests.bench.report import say
from tests.bench.rig import Rig
from tests.bench.sizes import Sizes

EVENTS_PER_JOB = 100
JOBS_PER_COMMIT = 1000
ROW_BYTES = 600  # with its share of the indexes
DISK_PART_MAX = 0.5  # of what is free
COUNT = "SELECT coalesce(sum(event_count), 0) FROM threads"
EVENTS = """
    WITH made AS (
        SELECT 'thr_' || md5('t' || j) AS thread_id, 'job_00' || md5('j' || j) AS job_id
        FROM generate_series(%(first)s::int, %(last)s::int) AS j
    ), archived AS (
        INSERT INTO events (stream_id, seq, thread_id, position, type, data, recorded_at)
        SELECT job_id, s, thread_id, s, 'token', json_build_object(
            'type', 'token', 'job_id', job_id, 'seq', s, 'attempt', 1, 'content', 'made up ',
            'deltas', 1, 'at', '2025-01-01T00:00:00.000Z'
        ), '2025-01-01'
        FROM made, generate_series(1, %(events)s::int) AS s
    ), owned AS (
        INSERT INTO threads (thread_id, owner, created_at, updated_at, position, seq, event_count)
        SELECT thread_id, 'nobody', '2025-01-01', '2025-01-01', %(events)s, 0, %(events)s FROM made
    )
    INSERT INTO jobs (job_id, thread_id, owner, status, attempt, last_seq, event_count)
    SELECT job_id, thread_id, 'nobody', 'done', 1, %(events)s, %(events)s FROM made
"""


def archive(rig: Rig, sizes: Sizes) -> Growth:
    points: list[Point] = []
    for rows in sizes.archive_rows:
        with psycopg.connect(rig.cluster.database_url, autocommit=True) as connection:
            if not _fill(rig, connection, rows):
                break
        points.append(uvloop.run(point(rig, rows, sizes.steady, sizes.growth_rounds)))
    return Growth("archived events", described(sizes.steady), points)


def _fill(rig: Rig, connection: psycopg.Connection, rows: int) -> bool:
    """False when there is no room for so many."""
    before = connection.execute(COUNT).fetchone()
    assert before is not None
    missing = rows - int(before[0])
    free = shutil.disk_usage(rig.cluster.plan.data_dir).free
    if missing * ROW_BYTES > free * DISK_PART_MAX:
        say(f"  no room for {rows:,} rows")
        return False
    connection.execute("SET synchronous_commit = off")
    first = int(before[0]) // EVENTS_PER_JOB
    last = first + missing // EVENTS_PER_JOB
    for start in range(first, last, JOBS_PER_COMMIT):
        end = min(start + JOBS_PER_COMMIT, last) - 1
        connection.execute(EVENTS, {"first": start, "last": end, "events": EVENTS_PER_JOB})
    connection.execute("VACUUM ANALYZE events, threads, jobs")
    return True
