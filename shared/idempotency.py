"""Idempotency-Keys: the first request with a key decides what all of them make.

    request ─▶ claim: key → plan (the ids of what is to be made) ─▶ accept_job, create_thread
               the user's partition                                  the thread's partition

A key belongs to its user, a thread to its partition, and one script reaches one partition only. So
the plan is kept first, and whoever has it may carry it out: the scripts that do find by its ids
what was made before.

Failures
    Gateway dies in between   The repeat gets the plan, and carries it out.
    Carried out, and let go   What was made is in the archive: who gets the plan of an earlier
                              request looks there before making it again.
    Refused afterwards        The key stays claimed; a repeat is tried again.
    Redis loses the record    A repeat is a new request.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from shared.errors import IdempotencyMismatch
from shared.ids import new_file_id, new_job_id, new_message_id, new_trace_id, partition_of_thread
from shared.keys import IDEMPOTENCY_SECONDS, PartitionKeys
from shared.redis_client import Redis
from shared.redis_scripts import Call, Script, run
from shared.times import utc_now


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's name for a request, and a hash of what it asked."""

    key: str
    fingerprint: str


class Plan(BaseModel):
    """What a request is going to make; the ids of a job and a file are there also when none is
    asked for."""

    model_config = ConfigDict(frozen=True)

    thread_id: str
    job_id: str
    message_id: str
    reply_id: str
    trace_id: str
    at: str
    file_id: str = ""

    @classmethod
    def new(cls, thread_id: str, partitions: int) -> Plan:
        partition = partition_of_thread(thread_id, partitions)
        return cls(
            thread_id=thread_id,
            job_id=new_job_id(partition),
            message_id=new_message_id(partition),
            reply_id=new_message_id(partition),
            trace_id=new_trace_id(),
            at=utc_now(),
            file_id=new_file_id(thread_id),
        )


class Claims:
    """Stateless: any number may work on the same Redis."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis, self._partitions = redis, partitions
        self._claim = Script("claim_key")

    async def claim(self, user: str, idempotency: Idempotency | None, plan: Plan) -> Plan:
        """The plan to follow: not the given one, if an earlier request has claimed the key.

        Raises IdempotencyMismatch, LogUnavailable.
        """
        if idempotency is None:
            return plan
        keys = PartitionKeys(zlib.crc32(user.encode()) % self._partitions)
        names = [keys.idempotency(user, idempotency.key)]
        args = [idempotency.fingerprint, plan.model_dump_json(), IDEMPOTENCY_SECONDS]
        code, *found = await run(self._redis, Call(self._claim, names, args))
        if code == b"MISMATCH":
            raise IdempotencyMismatch()
        return Plan.model_validate_json(found[0])
