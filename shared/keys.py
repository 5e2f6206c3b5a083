"""Every Redis key: its type, writer, readers and retention.

All keys of a partition carry the hash tag ``{hw:<p>}`` and so live in one slot of a Redis Cluster:
that is what lets one script change them together. Those of limits belong to no partition, and each is
alone in its script.

| key                          | type   | writer              | readers               | leaves when |
|------------------------------|--------|---------------------|-----------------------|-------------|
| {hw:p}:commands              | stream | accept, append      | orchestrators (group) | acked and deleted with `done` |
| {hw:p}:log                   | stream | every append        | persisters (group)    | trimmed behind the slowest group |
| {hw:p}:dead                  | stream | append, persister   | operators             | an operator retries or drops it |
| {hw:p}:transitions           | stream | each step of a thread, message or job | operators  | a day, or TRANSITIONS_MAX newer steps (shared/states.py) |
| {hw:p}:thread:<id>           | hash   | every append        | all                   | idle TTL, after it is archived |
| {hw:p}:thread:<id>:events    | stream | every append        | gateway, orchestrator | idle TTL, after it is archived |
| {hw:p}:thread:<id>:queue     | list   | accept, append      | append                | empty |
| {hw:p}:job:<id>              | hash   | accept, begin, append | all                 | idle TTL, after `done` is archived |
| {hw:p}:dirty:<user>          | set    | thread appends, for every member | gateway               | its threads are archived |
| {hw:u}:idempotency:<user>:<key> | hash | claim, in the partition of the user | claim | IDEMPOTENCY_SECONDS |
| {hw:p}:ticket:<hash>         | hash   | issue, redeem       | redeem                | TICKET_SECONDS, or its token's end; used or not |
| {hw:p}:meta                  | hash   | start-up check, every connection, restore | every writing script | never: `partitions`; the server's `run`; since the last loss its `life`, and `verified` while it may be written to |
| hw:rate:user:<user>          | string | gateway             | gateway               | full again: a minute at most |
| hw:rate:address:<address>    | string | gateway             | gateway               | the same |
| hw:jobs:<user>               | zset   | gateway             | gateway               | JOBS_KEPT_SECONDS behind the last one |
| hw:streams:<user>            | zset   | gateway             | gateway               | STREAM_LEASE_SECONDS behind the last renewal |
| hw:sockets:<user>            | zset   | gateway             | gateway               | the same |
| hw:sessions:<user>           | zset   | gateway             | gateway               | SESSION_SECONDS behind the last use of any |
| {hw:p}:thread:<id>:present   | zset   | gateway             | gateway               | PRESENCE_SECONDS behind the last renewal |
| {hw:p}:recall                | string | restore             | gateway               | RECALL_SECONDS: what was lost may still be brought back by those who know it |
| {hw:p}:absent                | –      | nobody              | scripts in a cluster: a slot that is on the move misses it | – |
| channel {hw:p}:thread:<id>   | shard channel | every append; gateways, with signals | gateways | – |
| channel {hw:p}:cancels       | shard channel | cancel       | orchestrators         | – |

A job's hash counts its attempts (`attempt`, the fence, which only rises) and beside them those that
ended in a hand-over (`handovers`, written by release): the difference is what the limit is about.

`scripts/prelude.lua` builds the keys of a job, a dirty set and a thread from the prefix, because a
script meets them by name; a test holds it against this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ORCHESTRATORS: Final = "orchestrators"
PERSISTERS: Final = "persisters"
IDEMPOTENCY_SECONDS: Final = 24 * 3600
TICKET_SECONDS: Final = 30
PRESENCE_SECONDS: Final = 30.0
SESSION_SECONDS: Final = 2 * 3600


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition."""

    partition: int

    @property
    def prefix(self) -> str:
        return f"{{hw:{self.partition}}}"

    @property
    def commands(self) -> str:
        return f"{self.prefix}:commands"

    @property
    def log(self) -> str:
        return f"{self.prefix}:log"

    @property
    def dead(self) -> str:
        return f"{self.prefix}:dead"

    @property
    def transitions(self) -> str:
        return f"{self.prefix}:transitions"

    @property
    def meta(self) -> str:
        return f"{self.prefix}:meta"

    @property
    def recall(self) -> str:
        return f"{self.prefix}:recall"

    @property
    def cancels(self) -> str:
        return f"{self.prefix}:cancels"

    def thread(self, thread_id: str) -> str:
        """The thread's hash, and the channel its events are published on."""
        return f"{self.prefix}:thread:{thread_id}"

    def thread_events(self, thread_id: str) -> str:
        return f"{self.prefix}:thread:{thread_id}:events"

    def thread_queue(self, thread_id: str) -> str:
        return f"{self.prefix}:thread:{thread_id}:queue"

    def present(self, thread_id: str) -> str:
        return f"{self.prefix}:thread:{thread_id}:present"

    def job(self, job_id: str) -> str:
        return f"{self.prefix}:job:{job_id}"

    def dirty(self, user: str) -> str:
        return f"{self.prefix}:dirty:{user}"

    def idempotency(self, user: str, key: str) -> str:
        return f"{self.prefix}:idempotency:{len(user)}:{user}:{key}"

    def ticket(self, digest: str) -> str:
        return f"{self.prefix}:ticket:{digest}"


def guard_of(key: str) -> str | None:
    """The key of the same partition that is never there; None for a key of no partition.

    A script names it in a cluster, so that it is refused (TRYAGAIN) as a whole while the keys of
    its slot are moved one by one: it may need one that is already gone, and would end half-way.
    """
    tag, closed, _ = key.partition("}")
    return f"{tag}}}:absent" if closed and tag.startswith("{hw:") else None


def user_rate(user: str) -> str:
    return f"hw:rate:user:{user}"


def address_rate(address: str) -> str:
    return f"hw:rate:address:{address}"


def jobs_of_user(user: str) -> str:
    return f"hw:jobs:{user}"


def streams_of_user(user: str) -> str:
    return f"hw:streams:{user}"


def sessions_of_user(user: str) -> str:
    return f"hw:sessions:{user}"


def sockets_of_user(user: str) -> str:
    return f"hw:sockets:{user}"
