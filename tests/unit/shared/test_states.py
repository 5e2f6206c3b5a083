"""States: chains that only lead onward."""

from __future__ import annotations

from itertools import combinations, product
from typing import get_args

import pytest

from shared.events import FinalStatus, JobStatus
from shared.states import (
    FINAL_STATUSES,
    JOB_STATUSES,
    MESSAGE_STATES,
    THREAD_STATES,
    MessageState,
    ThreadState,
    may_advance,
    message_state,
    ranks,
)


@pytest.mark.parametrize(
    ("chain", "names"),
    [
        (THREAD_STATES, ThreadState),
        (MESSAGE_STATES, MessageState),
        (JOB_STATUSES, JobStatus),
    ],
)
def test_the_chain_names_every_state_once(chain: tuple[str, ...], names: object) -> None:
    assert chain == get_args(names)


@pytest.mark.parametrize("chain", [THREAD_STATES, MESSAGE_STATES])
def test_a_thing_moves_onward_and_may_skip(chain: tuple[str, ...]) -> None:
    onward = set(combinations(chain, 2))
    for state, target in product(chain, repeat=2):
        assert may_advance(chain, state, target) == ((state, target) in onward)


def test_a_job_is_over_in_its_final_statuses() -> None:
    assert set(get_args(FinalStatus)) == FINAL_STATUSES
    assert [status for status in JOB_STATUSES if status not in FINAL_STATUSES] == [
        "queued",
        "running",
    ]


@pytest.mark.parametrize(
    ("position", "state"),
    [(1, "SENT"), (3, "SENT"), (4, "PROCESSING"), (5, "PROCESSING"), (6, "PENDING")],
)
def test_a_message_follows_the_persister(position: int, state: str) -> None:
    assert message_state(position, processing=5, archived=3) == state


def test_what_is_archived_is_sent_even_if_a_report_was_lost() -> None:
    assert message_state(3, processing=0, archived=3) == "SENT"


@pytest.mark.parametrize(
    ("kind", "chain"), [("thread", THREAD_STATES), ("message", MESSAGE_STATES)]
)
def test_a_higher_rank_is_further_along_the_chain(kind: str, chain: tuple[str, ...]) -> None:
    rank = ranks()[kind]
    for state, target in product(chain, repeat=2):
        assert (rank[target] > rank[state]) == may_advance(chain, state, target)


def test_no_end_of_a_job_leads_to_another() -> None:
    rank = ranks()["job"]
    assert rank["queued"] < rank["running"] < min(rank[status] for status in FINAL_STATUSES)
    assert len({rank[status] for status in FINAL_STATUSES}) == 1
