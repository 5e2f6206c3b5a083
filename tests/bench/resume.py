"""Coming back to a long job: how soon its events begin, and when all are there.

worker held ─▶ question accepted ─▶ this process begins the job, says its events, ends it
                    persister held: Redis alone has them        → "from Redis"
                    archived, and the thread's stream cut       → "archived"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from shared.codec import decode_command, encode
from shared.event_log import Append, EventLog, Lease, NumberedEvent
from shared.events import Done, Token
from shared.ids import new_message_id, partition_of
from shared.keys import ORCHESTRATORS, PartitionKeys
from shared.redis_client import connect
from shared.times import utc_now
from tests.bench.figures import Figure, short
from tests.bench.report import Chart, Table, Target
from tests.bench.rig import Rig
from tests.bench.sizes import Sizes
from tests.bench.streams import Answer, Request, stream
from tests.support.gateway_client import GatewayClient

ORCHESTRATOR, PERSISTER = "orchestrator-1", "persister-1"
CONSUMER = "bench"
EVENTS_PER_APPEND = 250
MILLISECONDS = 1000
TAIL_EVENTS = 100  # of a client that was away for a moment
FIRST_EVENT = b"event: "


@dataclass(frozen=True)
class Resumed:
    """Milliseconds from the request."""

    where: str
    events: int
    first_byte_ms: Figure
    last_byte_ms: Figure
    events_per_second: float


@dataclass(frozen=True)
class Resume:
    job_events: int
    rows: Sequence[Resumed]

    def tables(self) -> list[Table]:
        rows = [
            [row.where, str(row.events), str(row.first_byte_ms), str(row.last_byte_ms),
             short(row.events_per_second)]
            for row in self.rows
        ]  # fmt: skip
        head = ("", "events", "first event, ms", "last byte, ms", "events/s")
        note = "From the request; in brackets: the quickest and the slowest."
        return [Table(f"A job of {self.job_events:,} events, resumed", head, rows, note)]

    def charts(self) -> list[Chart]:
        return []

    def targets(self) -> list[Target]:
        if self.job_events < 10_000:
            return []
        return [
            Target.at_most(
                f"resume of 10,000 events, {row.where}, to the last byte",
                row.last_byte_ms.value,
                100,
                "ms",
            )
            for row in self.rows
            if row.events == self.job_events
        ]


def resume(rig: Rig, sizes: Sizes) -> Resume:
    return uvloop.run(_measure(rig, sizes.resume_events, sizes.resume_runs))


async def _measure(rig: Rig, events: int, runs: int) -> Resume:
    await rig.settled()
    async with rig.without(ORCHESTRATOR, PERSISTER):
        job_id = await _long_job(rig, events)
        rows = [await _resumed(rig, job_id, "from Redis", 0, events, runs)]
    await rig.settled()
    rows.append(await _resumed(rig, job_id, "archived", 0, events, runs))
    tail = max(0, events - TAIL_EVENTS)
    rows.append(await _resumed(rig, job_id, "its end", tail, events, runs))
    return Resume(events, rows)


async def _long_job(rig: Rig, events: int) -> str:
    """A job with so many events, the last of them ``done``: its id."""
    async with GatewayClient(rig.cluster.url, rig.token(0)) as client:
        job_id = (await client.ask("measure"))["job_id"]
    async with connect(rig.cluster.redis_url) as redis:
        log = EventLog(redis, rig.partitions)
        lease = await _begun(redis, log, job_id)
        numbered = _said(lease, events)
        for start in range(0, len(numbered), EVENTS_PER_APPEND):
            group = numbered[start : start + EVENTS_PER_APPEND]
            final = "done" if group[-1].type == "done" else None
            (reply,) = await log.append_many([Append(lease, group, final)])
            assert not isinstance(reply, Exception), reply
    return job_id


async def _begun(redis: Any, log: EventLog, job_id: str) -> Lease:
    """Take the job's command, as the worker would that is held."""
    commands = PartitionKeys(partition_of(job_id)).commands
    reply = await redis.xreadgroup(ORCHESTRATORS, CONSUMER, {commands: ">"}, count=1)
    ((_, ((entry_id, fields),)),) = reply
    command = decode_command(fields[b"d"])
    assert command.job_id == job_id
    begun = await log.begin_attempt(
        command, entry_id=entry_id.decode(), consumer=CONSUMER, attempts_max=1, model="made-up"
    )
    assert begun.lease is not None, begun.outcome
    return begun.lease


def _said(lease: Lease, events: int) -> list[NumberedEvent]:
    tokens = range(lease.seq + 1, events)
    text = "made up "
    said = [
        Token(job_id=lease.job_id, seq=seq, attempt=1, at=utc_now(), content=text, deltas=1)
        for seq in tokens
    ]
    done = Done(
        job_id=lease.job_id, seq=events, attempt=1, at=utc_now(), status="done",
        content=text * len(tokens), message_id=new_message_id(partition_of(lease.job_id)),
        finish_reason="stop", latency_ms=1,
    )  # fmt: skip
    return [NumberedEvent(event.seq, event.type, encode(event)) for event in (*said, done)]


async def _resumed(
    rig: Rig, job_id: str, where: str, after: int, events: int, runs: int
) -> Resumed:
    url = f"{rig.cluster.url}/v1/jobs/{job_id}/events?after={after}"
    request = Request.of("GET", url, token=rig.token(0))
    answers = [await stream(request) for _ in range(runs)]
    for answer in answers:
        assert answer.events == events - after, f"{answer.events} events behind {after}"
    last = Figure.of([(one.ended - one.began) * MILLISECONDS for one in answers])
    return Resumed(
        where=where,
        events=events - after,
        first_byte_ms=Figure.of([_first_event(one) * MILLISECONDS for one in answers]),
        last_byte_ms=last,
        events_per_second=(events - after) / last.value * MILLISECONDS,
    )


def _first_event(answer: Answer) -> float:
    """Seconds from the request to the first bytes of an event."""
    return next(at for at, data in answer.chunks if FIRST_EVENT in data) - answer.began
