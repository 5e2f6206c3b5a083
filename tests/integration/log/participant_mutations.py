"""What change_thread checks when it lets users in and out, and the test that guards it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_participants as participants

Guard = Callable[..., Awaitable[None]]
PARTICIPANT_MUTATIONS: list[tuple[str, str, Guard]] = [
    (
        "if not is_owner and not (a.type",
        "if false and not (a.type",
        participants.test_a_guest_does_not_rename,
    ),
    (
        "and a.member == a.user) then",
        ") then",
        participants.test_nobody_but_the_owner_takes_another_out,
    ),
    (
        "if others >= a.participants_max then",
        "if false then",
        participants.test_a_thread_has_room_for_so_many,
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
