"""The mechanisms of the log of steps, and the tests that guard them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_transitions as transitions

ONWARD = "(RANKS[kind][from] or -1) >= RANKS[kind][to]"
NOTED = "  record(prefix, thread_id, job, id, from or '', to, by)\n  return true"
TRANSITION_MUTATIONS: dict[str, list[tuple[str, str, Callable[..., Awaitable[None]]]]] = {
    "prelude": [
        (ONWARD, "false", transitions.test_every_step_of_an_answered_question),
        (NOTED, "  return true", transitions.test_every_step_of_an_answered_question),
        ("'MAXLEN', '~', TRANSITIONS_MAX, ", "", transitions.test_steps_are_bounded_in_number),
        (
            "if whose == id then state = was else",
            "if false then state = was else",
            transitions.test_a_message_that_is_deleted_before_it_is_sent,
        ),
    ],
    "report_progress": [
        ("forget_steps(prefix)\n", "", transitions.test_steps_leave_after_a_day),
        (
            "if tonumber(at) <= position and ",
            "if ",
            transitions.test_a_message_waits_for_its_own_position,
        ),
    ],
    "begin_attempt": [
        (
            "record(prefix, thread_id, '', job_id, 'running', 'running', consumer)",
            "return {'LOST'}",
            transitions.test_another_attempt_stands_there,
        ),
    ],
}
