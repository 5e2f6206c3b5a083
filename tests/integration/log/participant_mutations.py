"""What change_thread checks of users and messages, claim_key of keys, and the guarding tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_files as files
from tests.integration.log import test_keys as keys
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
    (
        "if status == 'queued' then end_waiting(a.job_id) end",
        "",
        participants.test_deleting_a_message_ends_its_job_first,
    ),
    (
        "if status == 'running' then flag_cancel(job, a.job_id, a.cancels) end",
        "",
        participants.test_deleting_a_message_ends_its_job_first,
    ),
    (
        "['file.added'] = true,",
        "",
        files.test_a_guest_may_add_a_file_and_a_stranger_may_not,
    ),
    ("for place = 3, #ARGV do", "for place = 4, #ARGV do", files.test_a_file_comes_with_its_text),
    (
        "if string.find(requests, a.request_id, 1, true) then return {'CHANGED'} end",
        "",
        files.test_a_file_is_added_once,
    ),
    (
        ", ['file.deleted'] = true}\nlocal is_quiet",
        "}\nlocal is_quiet",
        files.test_adding_moves_a_thread_to_the_front_and_deleting_does_not,
    ),
    (
        "if a.unless_named and (t[9] or '') ~= '' then",
        "if false then",
        participants.test_a_name_is_not_taken_away,
    ),
]
KEY_MUTATIONS: dict[str, list[tuple[str, str, Guard]]] = {
    "claim_key": [
        ("if not seen[1] then", "if true then", keys.test_the_first_request_decides),
        ("if seen[1] ~= ARGV[1] then", "if false then", keys.test_another_request_is_refused),
        ("redis.call('EXPIRE', KEYS[1], ARGV[3])", "", keys.test_a_key_is_remembered_for_a_day),
    ]
}
