"""The tests can fail: a mechanism of the orchestrator, taken out, breaks the test that guards it.

A mutation is one edit of one function: its old text, its new text, and a test that passes on the
code as it is. It must fail on the edited one.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from typing import Any, cast

import pytest

from services.orchestrator.admission import Slots
from services.orchestrator.app import Orchestrator
from services.orchestrator.appender import Appender
from services.orchestrator.consumer import Consumer
from services.orchestrator.heartbeat import Heartbeat
from services.orchestrator.job_writer import JobWriter, LeaseLost
from services.orchestrator.run_job import Jobs, _JobRun
from services.orchestrator.turns import Turns
from shared import group_reads
from shared.redis_client import Redis, ResponseError
from tests.integration.orchestrator import test_admission as admitting
from tests.integration.orchestrator import test_appender as appending
from tests.integration.orchestrator import test_cancel as cancelling
from tests.integration.orchestrator import test_leases as leases
from tests.integration.orchestrator import test_lost_groups as healing
from tests.integration.orchestrator import test_model_failures as failing
from tests.integration.orchestrator import test_resume as resuming
from tests.integration.orchestrator.answering_mutations import ANSWERING
from tests.integration.orchestrator.gateway import Gateway
from tests.integration.orchestrator.leaving_mutations import LEAVING, Mutation
from tests.integration.orchestrator.workers import Bench
from tests.support.model_server import ModelServer

pytestmark = pytest.mark.mutations

WAIT_SECONDS = 1.5  # for what will not happen
FAILURES = (
    AssertionError, TimeoutError, LeaseLost, KeyError, ValueError, ExceptionGroup, ResponseError,
)  # fmt: skip

MUTATIONS: dict[str, Mutation] = {
    "the first token waits for others": (
        JobWriter.token,
        "self._mark(self)",
        "self._waiting_deltas > 2 and self._mark(self)",
        appending.test_the_first_token_goes_at_once_and_what_waits_becomes_one_event,
    ),
    "an event does not count what it joins": (
        JobWriter._seal,
        "deltas=deltas",
        "deltas=1",
        appending.test_the_first_token_goes_at_once_and_what_waits_becomes_one_event,
    ),
    "a job whose text waits reads on": (
        JobWriter.room,
        "self._waiting_chars <= PENDING_CHARS_MAX",
        "True",
        appending.test_a_job_whose_text_waits_holds_its_model_back,
    ),
    "a gap is not filled": (
        JobWriter.settle,
        'reply.code == "FENCED" or not 0',
        'reply.code in ("FENCED", "GAP") or not 0',
        appending.test_the_stream_is_whole_whatever_the_log_does,
    ),
    "a superseded job is not told": (
        JobWriter.settle,
        'reply.code == "FENCED" or not 0',
        "not 0",
        appending.test_a_superseded_job_is_told_to_stop_and_writes_no_more,
    ),
    "an append asks nobody whether to cancel": (
        JobWriter.settle,
        "elif reply.cancel:",
        "elif False:",
        cancelling.test_a_lost_publish_is_made_up_for_by_the_next_append,
    ),
    "a refused append is tried for ever": (
        Appender._append,
        "isinstance(reply, LogUnavailable)",
        "isinstance(reply, Exception)",
        appending.test_an_append_that_cannot_succeed_costs_one_job_its_attempt,
    ),
    "an append that is put off is tried at once": (
        Turns.put_off,
        "self._put_off.add(writer)",
        "self.mark(writer)",
        appending.test_a_job_whose_append_is_put_off_does_not_ask_again_at_once,
    ),
    "a piece of a text that flows is urgent": (
        cast("Any", JobWriter.is_urgent).fget,
        "not self._said",
        "True",
        appending.test_a_busy_worker_writes_two_pieces_as_one_event_and_each_first_one_at_once,
    ),
    "nobody renews the lease": (
        Heartbeat._run,
        "self._beat(held)",
        "pass",
        leases.test_a_heartbeat_keeps_a_job_for_many_leases,
    ),
    "nobody renews the lease of a blocked loop": (
        Heartbeat._run,
        "self._beat(held)",
        "pass",
        leases.test_a_blocked_event_loop_loses_no_lease,
    ),
    "a heartbeat does not look who owns the job": (
        Heartbeat._beat,
        "if not renewed.kept:",
        "if False:",
        leases.test_a_superseded_worker_is_stopped_by_its_heartbeat,
    ),
    "a heartbeat asks nobody whether to cancel": (
        Heartbeat._beat,
        "elif renewed.cancel:",
        "elif False:",
        cancelling.test_a_lost_publish_is_made_up_for_by_the_next_heartbeat,
    ),
    "a lease that cannot be renewed goes on": (
        Heartbeat._stop_when_over,
        "held.tell(Stop.LOST)",
        "pass",
        leases.test_a_worker_cut_off_from_redis_lets_go_of_the_model_within_a_lease,
    ),
    "there is no end of slots": (
        Slots.__init__,
        "asyncio.Semaphore(count)",
        "asyncio.Semaphore(1000)",
        admitting.test_a_worker_never_holds_more_than_it_runs_and_another_takes_the_rest,
    ),
    "a reader keeps a slot for what it could not read": (
        Slots._read,
        "if reader not in self._holding:",
        "if True:",
        admitting.test_an_entry_that_faststream_cannot_read_costs_no_slot,
    ),
    "a reader does not share a slot": (
        Slots._read,
        'min(call["block"], SCARCE_BLOCK_MS)',
        "3000",
        admitting.test_one_slot_serves_every_partition,
    ),
    "a job does not give its slot back": (
        Slots.release,
        "self._free.release()",
        "pass",
        admitting.test_a_job_that_crashes_gives_its_slot_back,
    ),
    "a refused read is repeated at once": (
        group_reads._calmly,
        "else REFUSED_SECONDS",
        "else 0",
        admitting.test_reads_that_redis_refuses_are_repeated_calmly,
    ),
    "a reader whose read is refused keeps its slot": (
        Slots._read,
        "if not kept:",
        "if sys.exc_info()[1] is None and not kept:",
        healing.test_one_slot_is_enough_to_heal_every_reader,
    ),
    "groups that are gone are not made again": (
        group_reads._is_gone,
        "str(error).startswith(_GROUP_GONE)",
        "False",
        healing.test_what_is_added_before_a_group_is_back_is_delivered,
    ),
    "groups that cannot be made are tried again at once": (
        group_reads._made_again,
        "return False",
        "return True",
        healing.test_groups_that_cannot_be_made_are_no_loop,
    ),
    "a worker that leaves insists on its groups": (
        group_reads._is_gone,
        "str(error).startswith(_GROUP_GONE)",
        "False",
        healing.test_giving_back_needs_no_group,
    ),
    "a dead subscriber is no failure": (
        Orchestrator._broken,
        "if self._parts.consumer.is_running else",
        "if True else",
        healing.test_a_worker_with_a_dead_subscriber_has_failed,
    ),
    "a leaving worker keeps what it has not begun": (
        Consumer._give_back,
        "if ids:",
        "if False:",
        admitting.test_what_was_delivered_and_not_begun_is_given_back_on_leaving,
    ),
    "a job runs as often as it is delivered": (
        Jobs.run,
        " or command.job_id in self._running",
        "",
        leases.test_a_job_delivered_again_while_it_runs_here_runs_once,
    ),
    **LEAVING,
    **ANSWERING,
    "a fenced append is the last word": (
        JobWriter.settle,
        "and not asked",
        "and False",
        resuming.test_a_fenced_writer_takes_its_attempt_up_again,
    ),
    "a fenced append answers a doubt that came meanwhile": (
        JobWriter.settle,
        "and not asked",
        "and not self.contested",
        resuming.test_a_fenced_append_is_no_answer_to_the_heartbeats_doubt,
    ),
    "a refusal is asked about again": (
        JobWriter.settle,
        "and not asked",
        "and True",
        resuming.test_a_zombie_asks_once_and_is_refused,
    ),
    "the heartbeat keeps its doubt to itself": (
        Heartbeat._beat,
        "each.tell(Stop.REWOUND)",
        "pass",
        resuming.test_a_heartbeat_that_finds_the_attempt_gone_makes_the_writer_ask,
    ),
    "nothing is begun a second time": (
        _JobRun._answer,
        "return True",
        "return False",
        failing.test_an_answer_that_breaks_off_once_begins_again_in_the_same_worker,
    ),
}


def mutate(monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    function, old, new, _ = mutation
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{function.__qualname__} has no such text, or has it twice"
    module = sys.modules[function.__module__]
    edited: dict[str, Any] = {}
    exec(source.replace(old, new), vars(module), edited)
    *path, name = function.__qualname__.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name, edited[name])


@pytest.mark.parametrize("name", MUTATIONS)
async def test_what_is_taken_out_is_missed(
    name: str,
    bench: Bench,
    gateway: Gateway,
    model: ModelServer,
    redis: Redis,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.integration.orchestrator.waiting.SECONDS_MAX", WAIT_SECONDS)
    monkeypatch.setattr("tests.support.model_statistics.UNTIL_SECONDS_MAX", WAIT_SECONDS)
    mutate(monkeypatch, MUTATIONS[name])
    guard = MUTATIONS[name][3]
    given: dict[str, Any] = {
        "bench": bench,
        "gateway": gateway,
        "model": model,
        "redis": redis,
        "database_url": database_url,
        "monkeypatch": monkeypatch,
        "seed": 0,
        "step": "_parse",
    }
    asked = {parameter: given[parameter] for parameter in inspect.signature(guard).parameters}
    with pytest.raises(FAILURES):
        await guard(**asked)
