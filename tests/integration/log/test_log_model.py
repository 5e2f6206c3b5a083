"""The log against its model: one state machine of clients, workers, persisters and time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration.log.client_rules import ClientRules
from tests.integration.log.continuity_rules import ContinuityRules
from tests.integration.log.driven_log import PARTITIONS
from tests.integration.log.persister_rules import PersisterRules
from tests.integration.log.worker_rules import Worker, WorkerRules
from tests.support.log_server import connect_repeating

EXAMPLES_MAX = 80
STEPS_MAX = 50
ROUNDS_MAX = 200
HAND_OVERS_MAX = 2  # few enough to meet the bound
PARTICIPANTS_MAX = 1
SETTINGS = settings(
    max_examples=EXAMPLES_MAX,
    stateful_step_count=STEPS_MAX,
    deadline=None,
    print_blob=True,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)


class LogMachine(ClientRules, WorkerRules, PersisterRules, ContinuityRules):
    def teardown(self) -> None:
        """Accepted is kept: whatever happened, every job can be ended and everything archived."""
        if sys.exc_info()[0] is not None:
            return  # a step failed: that is what there is to tell
        for partition in range(PARTITIONS):
            self._end_all_jobs(partition)
            self.archive_everything(partition)
        self.server_and_model_agree()
        self.channels_tell_the_streams()
        assert all(job.is_over for job in self.model.jobs.values())
        assert all(thread.expires or not thread.is_kept for thread in self.model.threads.values())
        assert not self.model.dirty

    def _end_all_jobs(self, partition: int) -> None:
        for _ in range(ROUNDS_MAX):
            if not self.model.partitions[partition].commands:
                return
            self.deliver(partition, "w1")
            for delivery in self.claim_all(partition, "w1"):
                worker = self.begin(delivery)
                assert isinstance(worker, Worker)
                self.finish(worker, "done")
        raise AssertionError("some command never ends")


@pytest.fixture
def attached(
    redis_url: str, cut_to_the_letter: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The machine's server, with a stream per thread that is cut early and exactly."""
    monkeypatch.setattr("shared.event_log.HAND_OVERS_MAX", HAND_OVERS_MAX)
    monkeypatch.setattr("shared.thread_log.PARTICIPANTS_MAX", PARTICIPANTS_MAX)
    with asyncio.Runner() as runner:
        redis = connect_repeating(redis_url)
        LogMachine.attach(runner, redis)
        yield
        LogMachine.detach()
        runner.run(redis.aclose())


@pytest.mark.usefixtures("attached")
def test_the_log_does_what_the_model_says() -> None:
    run_state_machine_as_test(LogMachine, settings=SETTINGS)
