"""The mechanisms by which a job leaves its worker: handed over, cut off, lost; and their guards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from services.orchestrator.app import Orchestrator
from services.orchestrator.consumer import Consumer
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.job_writer import JobWriter
from services.orchestrator.run_job import Jobs, _JobRun
from services.orchestrator.second_offer import SecondOffer
from tests.integration.orchestrator import test_drain as drains
from tests.integration.orchestrator import test_leases as leases
from tests.integration.orchestrator import test_lost_jobs as lost_jobs
from tests.integration.orchestrator import test_resume as resuming

Guard = Callable[..., Awaitable[None]]
Mutation = tuple[Callable[..., Any], str, str, Guard]

LEAVING: dict[str, Mutation] = {
    "a leaving worker waits for nothing": (
        Orchestrator._jobs_end,
        "while tasks and not hurried.done():",
        "while False:",
        drains.test_what_runs_may_end_and_nothing_new_is_taken,
    ),
    "a leaving worker still looks ready": (
        Orchestrator.drain,
        "self._is_draining = True",
        "self._broken = str",
        drains.test_what_runs_may_end_and_nothing_new_is_taken,
    ),
    "a job that hangs has the whole drain": (
        Orchestrator.drain,
        "deadline - HAND_OVER_SECONDS_MAX - STOP_SECONDS_MAX",
        "deadline",
        drains.test_a_job_that_hangs_is_handed_over_before_the_drain_is_over,
    ),
    "a hurry changes nothing": (
        Orchestrator.hurry,
        "self._hurried.set()",
        "pass",
        drains.test_who_is_in_a_hurry_hands_over_at_once,
    ),
    "a failure is not in a hurry": (
        Orchestrator.drain,
        "if self._broken():",
        "if False:",
        drains.test_a_worker_that_has_failed_hands_over_at_once,
    ),
    "what has not begun is given back behind what runs": (
        Orchestrator._read_no_more,
        "await consumer.give_back()",
        "pass",
        drains.test_what_was_delivered_and_not_begun_does_not_wait_for_what_runs,
    ),
    "what runs is given back": (
        Consumer._give_back,
        'and entry["message_id"].decode() not in running',
        "",
        drains.test_what_was_delivered_and_not_begun_does_not_wait_for_what_runs,
    ),
    "a hand-over uses an attempt up": (
        _JobRun._answer,
        "lease.attempts_used <",
        "lease.attempt <",
        drains.test_an_answer_that_breaks_off_after_a_hand_over_begins_again,
    ),
    "a blocked node loses its lease": (
        Heartbeat._run,
        "self._beat(held)",
        "pass",
        leases.test_a_node_that_blocks_the_event_loop_for_many_leases_loses_none,
    ),
    "a worker that cannot renew keeps its model": (
        Heartbeat._stop_when_over,
        "held.tell(Stop.LOST)",
        "pass",
        leases.test_a_worker_that_cannot_renew_leaves_its_model_and_another_takes_over,
    ),
    "a lost job is a lost lease": (
        JobWriter.settle,
        "self.lose(JobForgotten)",
        "self.lose()",
        resuming.test_a_job_that_redis_does_not_know_is_forgotten_not_lost,
    ),
    "a lost job is not offered again": (
        Jobs.run,
        "await self._ports.second_offer.make(command)",
        "pass",
        lost_jobs.test_the_worker_brings_back_what_nobody_else_knows,
    ),
    "a lost thread is not made anew": (
        SecondOffer._accept,
        "if thread is not None:",
        "if True:",
        lost_jobs.test_the_worker_brings_back_what_nobody_else_knows,
    ),
    "a job is offered that the archive knows": (
        SecondOffer._made,
        "if await self.archive.job(command.job_id) is None:",
        "if True:",
        lost_jobs.test_what_the_archive_knows_is_left_to_those_who_restore_it,
    ),
    "an offer waits for ever": (
        SecondOffer.make,
        "OFFER_SECONDS_MAX):",
        "None):",
        lost_jobs.test_an_offer_waits_for_the_archive,
    ),
}
