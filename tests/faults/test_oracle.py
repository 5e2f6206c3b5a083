"""The oracle passes what is right, and each corruption breaks the one rule that it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import corruptions
from tests.faults.corruptions import EVENTS, JOB, USER, connection, good, record
from tests.faults.figures import figures
from tests.faults.history import History, Record, load
from tests.faults.oracle import check, main

CORRUPTIONS: list[tuple[int, Callable[[list[Record]], None]]] = [
    *(
        (1, one)
        for one in (corruptions.viewer_misses_an_event, corruptions.viewer_gets_an_event_twice)
    ),
    (1, corruptions.another_done_follows),
    *(
        (2, one)
        for one in (
            corruptions.message_has_another_text,
            corruptions.get_has_another_text,
            corruptions.message_is_missing,
        )
    ),
    *(
        (3, one)
        for one in (
            corruptions.page_begins_too_late,
            corruptions.page_ends_too_early,
            corruptions.viewer_reads_another_text,
        )
    ),
    *(
        (4, one)
        for one in (
            corruptions.job_never_ends,
            corruptions.job_fails,
            corruptions.key_makes_two_jobs,
        )
    ),
    (5, corruptions.zombie_speaks),
    *((6, one) for one in (corruptions.redis_differs, corruptions.thread_event_is_not_archived)),
    (6, corruptions.redis_has_a_hole_between_threads_events),
    (7, corruptions.rebuild_differs),
    (8, corruptions.end_expired_before_it_was_archived),
    *((9, one) for one in (corruptions.stranger_reads, corruptions.stranger_can_tell_it_is_there)),
    *(
        (0, one)
        for one in (
            corruptions.something_is_pending,
            corruptions.group_is_gone,
            corruptions.last_request_fails,
        )
    ),
    *(
        (0, one)
        for one in (
            corruptions.service_logs_a_traceback,
            corruptions.service_grows,
            corruptions.viewer_is_left_alone,
        )
    ),
    *(
        (0, one)
        for one in (
            corruptions.gateway_answers_500,
            corruptions.gateway_does_not_say_when_to_come_back,
        )
    ),
    (0, corruptions.rebuild_was_not_tried),
]


def test_what_is_right_passes() -> None:
    assert check(good()) == []


@pytest.mark.parametrize(
    ("invariant", "corrupt"), CORRUPTIONS, ids=[one.__name__ for _, one in CORRUPTIONS]
)
def test_a_corruption_breaks_its_invariant_and_no_other(
    invariant: int, corrupt: Callable[[list[Record]], None]
) -> None:
    records = good()
    corrupt(records)
    violations = check(records)
    assert {one.invariant for one in violations} == {invariant}, violations


def test_a_row_may_say_that_a_job_fails() -> None:
    records = good()
    corruptions.job_fails(records)
    expected = record("expect", status=["failed"], codes=[], waived=[])
    assert check([*records, expected]) == []


def test_a_cancelled_job_was_to_be_cancelled() -> None:
    records = good([*EVENTS[:5], EVENTS[5] | {"status": "cancelled"}])
    assert {one.invariant for one in check(records)} == {4}
    path = f"/v1/jobs/{JOB}/cancel"
    asked = record("request", user=USER, method="POST", path=path, status=200, answer={})
    assert check([*records, asked]) == []


def test_what_a_row_waives_is_not_told() -> None:
    records = good()
    corruptions.rebuild_differs(records)
    assert check([*records, record("expect", status=[], codes=[], waived=[7])]) == []


def test_a_kept_history_is_checked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, corrupt, code in (("good", None, 0), ("bad", corruptions.rebuild_differs, 1)):
        records = good()
        if corrupt is not None:
            corrupt(records)
        with History(tmp_path / name) as history:
            for one in records:
                history.add(**{key: value for key, value in one.items() if key != "t"})
        assert len(load(tmp_path / name)) == len(records)
        assert main(str(tmp_path / name)) == code
    assert "7 rebuild: exit code 1" in capsys.readouterr().out


def test_figures_of_a_history() -> None:
    found = figures(good())
    assert (found.jobs, found.attempts_max, found.connections_max) == (1, 2, 2)
    assert found.longest_pause_seconds == pytest.approx(0.2)  # the second connection is in between


def test_a_pause_counts_that_a_loss_made_void_but_not_the_one_behind_the_end() -> None:
    records = good()
    end = records[-1]["t"]
    records.append(record("restart", viewer="viewer-1", connection=2) | {"t": end + 5})
    again = enumerate(connection(3, 0, EVENTS), 1)
    records += [one | {"t": end + 5 + number * 0.01} for number, one in again]
    assert figures(records).longest_pause_seconds == pytest.approx(0.2)
