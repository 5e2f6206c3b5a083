"""Ids: well formed, ordered by time, and naming the partition that holds their keys."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.ids import (
    is_job_id,
    is_message_id,
    is_thread_id,
    new_job_id,
    new_message_id,
    new_thread_id,
    new_trace_id,
    partition_of,
    partition_of_thread,
)
from shared.settings import PARTITIONS_MAX

unhurried = settings(deadline=None, print_blob=True)
CHECKS = {
    "thread": (new_thread_id, is_thread_id),
    "job": (lambda: new_job_id(5), is_job_id),
    "message": (lambda: new_message_id(5), is_message_id),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_an_id_is_of_one_kind(kind: str) -> None:
    new_id = CHECKS[kind][0]()
    assert {name: check(new_id) for name, (_, check) in CHECKS.items()} == {
        name: name == kind for name in CHECKS
    }


@pytest.mark.parametrize("kind", CHECKS)
def test_ids_do_not_repeat_and_follow_time(kind: str) -> None:
    new, _ = CHECKS[kind]
    assert len({new() for _ in range(10_000)}) == 10_000
    ids: list[str] = []
    for _ in range(5):
        ids.append(new())
        start = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == start:
            """Until the next millisecond."""
    assert all(earlier < later for earlier, later in pairwise(ids))


@unhurried
@given(st.integers(0, PARTITIONS_MAX - 1))
def test_a_placed_id_carries_its_partition(partition: int) -> None:
    assert partition_of(new_job_id(partition)) == partition
    assert partition_of(new_message_id(partition)) == partition
    assert is_job_id(new_job_id(partition))


@unhurried
@given(st.integers(1, PARTITIONS_MAX))
def test_a_thread_has_one_partition(partitions: int) -> None:
    thread = new_thread_id()
    assert 0 <= partition_of_thread(thread, partitions) < partitions
    assert partition_of_thread(thread, partitions) == partition_of_thread(thread, partitions)


def test_the_place_of_a_thread_never_changes() -> None:
    """Deployments hold keys by it. 0xCBF43926 is the check value of the CRC-32 of ISO 3309."""
    assert partition_of_thread("123456789", 2**32) == 0xCBF43926
    assert partition_of_thread("123456789", 8) == 6


def test_threads_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for _ in range(8000):
        counts[partition_of_thread(new_thread_id(), 8)] += 1
    assert min(counts) > 800


@pytest.mark.parametrize("check", [is_thread_id, is_job_id, is_message_id])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: good + "\n",
        lambda good: good + "0",
        lambda good: good[:-1],
        lambda good: good.upper(),
        lambda good: " " + good,
        lambda good: good[:4] + "٠" + good[5:],
        lambda good: good[:4] + "/../" + good[8:],
        lambda good: "",
    ],
)
def test_what_only_looks_like_an_id_is_refused(check, spoil) -> None:  # type: ignore[no-untyped-def]
    for new, _ in CHECKS.values():
        assert not check(spoil(new()))


def test_a_trace_id_is_what_trace_context_asks_for() -> None:
    assert len(bytes.fromhex(new_trace_id())) == 16
    assert new_trace_id() != new_trace_id()
