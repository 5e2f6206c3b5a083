"""The mechanisms of the dead letters' scripts, and the test that guards each (see `mutations`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_dead_letters as dead_letters
from tests.integration.log import test_retention as retention

LETTER_MUTATIONS: dict[str, list[tuple[str, str, Callable[..., Awaitable[None]]]]] = {
    "retry_letter": [
        (
            "if #found == 0 then return {'GONE'} end",
            "",
            dead_letters.test_a_letter_is_retried_once,
        ),
        (
            " or letter[7] ~= 'entry' or #letter < 10",
            "",
            dead_letters.test_what_holds_no_entry_is_kept,
        ),
        (
            "if redis.call('HGET', job, 'entry') == letter[8] then",
            "if false then",
            dead_letters.test_a_retried_command_is_the_command_of_its_job,
        ),
        (
            "if redis.call('HGET', job, 'entry') == letter[8] then",
            "if true then",
            dead_letters.test_a_job_that_has_another_command_keeps_it,
        ),
        (
            "redis.call('XDEL', KEYS[1], ARGV[2])",
            "",
            dead_letters.test_a_letter_is_retried_once,
        ),
    ],
    "dead_letter": [
        (
            "if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then",
            "if false then",
            retention.test_a_bad_command_becomes_a_dead_letter,
        ),
    ],
}
