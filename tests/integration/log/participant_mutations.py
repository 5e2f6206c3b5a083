"""What change_thread checks when it lets users in and out, and the test that guards it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_participants as participants

Guard = Callable[..., Awaitable[None]]
PARTICIPANT_MUTATIONS: list[tuple[str, str, Guard]] = [
    (
        "if not is_owner and not is_free",
        "if false and not is_free",
        participants.test_a_guest_does_not_rename,
    ),
    (
        " and a.member == a.user)",
        ")",
        participants.test_nobody_but_the_owner_takes_another_out,
    ),
    (
        "if others >= a.participants_max then",
        "if false then",
        participants.test_a_thread_has_room_for_so_many,
    ),
    (
        "if a.upto <= tonumber(redis.call('HGET', thread, mark) or 0) then",
        "if false then",
        participants.test_reading_goes_onward_and_moves_nothing_else,
    ),
    (
        "is_quiet and '' or a.at",
        "a.at",
        participants.test_reading_goes_onward_and_moves_nothing_else,
    ),
    ("if a.member == owner then", "if false then", participants.test_an_owner_stays),
    (
        "'left', with_line",
        "'gone', with_line",
        participants.test_who_left_is_told_to_look_until_that_is_archived,
    ),
    (
        "or has_line(participants, a.member) then return {'CHANGED'} end",
        "then return {'CHANGED'} end",
        participants.test_what_is_so_already_is_no_change,
    ),
]
