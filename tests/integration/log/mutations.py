"""Every mechanism of the scripts, and the test that guards it.

A mutation is one edit of one script: its old text, its new text, and a test that passes on the
scripts as they are and must fail on the edited one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_accept as accept
from tests.integration.log import test_attempts as attempts
from tests.integration.log import test_dead_letters as dead_letters
from tests.integration.log import test_hand_overs as handing
from tests.integration.log import test_late_repeats as repeats
from tests.integration.log import test_retention as retention
from tests.integration.log import test_threads as threads
from tests.integration.log.letter_mutations import LETTER_MUTATIONS
from tests.integration.log.participant_mutations import KEY_MUTATIONS, PARTICIPANT_MUTATIONS

Guard = Callable[..., Awaitable[None]]
FENCE = "j[1] ~= ARGV[5] or j[2] ~= ARGV[6]"
OWNER = "j[1] ~= ARGV[3] or j[2] ~= ARGV[4] or "
MUTATIONS: dict[str, list[tuple[str, str, Guard]]] = {
    "append_events": [
        (FENCE, "j[2] ~= ARGV[6]", attempts.test_append_needs_the_attempt_it_was_given),
        (FENCE, "j[1] ~= ARGV[5]", attempts.test_append_needs_the_token_it_was_given),
        (FENCE, "false", attempts.test_append_of_a_superseded_attempt_is_fenced),
        (
            "if tonumber(ARGV[10]) > last + 1 then",
            "if false then",
            attempts.test_append_behind_a_gap_is_told_where_to_go_on,
        ),
        (
            "if tonumber(ARGV[#ARGV - 2]) <= last then",
            "if false then",
            attempts.test_append_sent_again_is_a_duplicate_also_when_the_job_is_over,
        ),
        (
            "if seq > last then",
            "if true then",
            attempts.test_append_skips_what_is_there_and_adds_what_is_not,
        ),
        (
            "if j[4] ~= 'queued' and j[4] ~= 'running' then",
            "if false then",
            attempts.test_append_after_done_is_fenced,
        ),
        ("j[5] and 1 or 0", "0", attempts.test_append_tells_the_worker_of_a_cancel),
        (
            "if ARGV[9] ~= '' then",
            "if false then",
            attempts.test_a_job_given_up_leaves_a_dead_letter,
        ),
        (
            "redis.call('SPUBLISH', thread, table.concat(lines, '\\n'))",
            "",
            accept.test_what_is_published_is_what_is_stored,
        ),
    ],
    "begin_attempt": [
        (
            "if #pending == 0 or pending[1][2] ~= consumer then",
            "if false then",
            attempts.test_begin_of_an_entry_that_went_to_another_consumer_is_lost,
        ),
        (
            "if (status ~= 'queued' and status ~= 'running') or j[6] ~= entry then",
            "if false then",
            attempts.test_begin_of_a_job_that_is_over_acknowledges_its_entry,
        ),
        (
            "if j[7] == owner then",
            "if false then",
            attempts.test_begin_sent_again_is_the_same_attempt,
        ),
        (
            "if j[9] ~= owner then",
            "if false then",
            repeats.test_a_begin_is_lost_once_another_worker_owns_the_job,
        ),
        (
            "'entry', 'begun_by',",
            "'entry', 'owner_token',",
            attempts.test_begin_beyond_the_limit_is_exhausted_however_often_it_is_sent,
        ),
        (
            "if j[5] then",
            "if false then",
            attempts.test_begin_of_a_flagged_job_is_cancelled_however_often_it_is_sent,
        ),
        (
            "if attempt - handovers >= tonumber(ARGV[5]) then",
            "if false then",
            attempts.test_begin_beyond_the_limit_is_exhausted_however_often_it_is_sent,
        ),
        (
            "if attempt - handovers >=",
            "if attempt >=",
            handing.test_a_hand_over_uses_no_attempt_up,
        ),
        (
            "return {'LOST'} end\n  return {'BEGUN', attempt, seq, first, handovers",
            "return {'LOST'} end\n  return {'BEGUN', attempt, seq, first, 0",
            handing.test_a_begin_sent_again_knows_of_the_hand_overs,
        ),
        (
            "thread, line)\nreturn {'BEGUN', attempt, seq, first, handovers",
            "thread, line)\nreturn {'BEGUN', attempt, seq, first, 0",
            handing.test_a_hand_over_uses_no_attempt_up,
        ),
    ],
    "renew_lease": [
        (
            "attempt ~= mine or j[2] ~= ARGV[4] or ",
            "",
            attempts.test_renewal_by_a_superseded_worker_is_lost,
        ),
        (" or j[3] ~= 'running'", "", attempts.test_renewal_after_the_end_brings_nothing_back),
        ("'FORCE', ", "", attempts.test_renewal_brings_back_what_a_recreated_group_has_forgotten),
    ],
    "release_lease": [
        (OWNER, "", attempts.test_release_by_a_superseded_worker_changes_nothing),
        (
            "redis.call('HDEL', KEYS[2], 'owner_token')",
            "",
            attempts.test_a_released_job_goes_to_the_next_who_looks,
        ),
        (
            "redis.call('HDEL', KEYS[2], 'owner_token')",
            "",
            handing.test_a_release_sent_again_is_one_hand_over,
        ),
        (
            "redis.call('HINCRBY', KEYS[2], 'handovers', 1)",
            "",
            handing.test_a_hand_over_uses_no_attempt_up,
        ),
        (
            "tonumber(j[5] or 0) < tonumber(ARGV[6])",
            "true",
            handing.test_hand_overs_beyond_their_maximum_use_attempts_up,
        ),
    ],
    "prelude": [
        (
            "redis.call('XACK', k.commands, k.group, entry)",
            "",
            attempts.test_done_acknowledges_the_command_and_starts_the_next_job,
        ),
        (
            "redis.call('XDEL', k.commands, entry)",
            "",
            attempts.test_done_acknowledges_the_command_and_starts_the_next_job,
        ),
        (
            "if next_id then",
            "if false then",
            attempts.test_done_acknowledges_the_command_and_starts_the_next_job,
        ),
        (
            "redis.call('LREM', k.queue, 0, job_id)",
            "",
            accept.test_a_waiting_job_that_is_cancelled_leaves_the_queue,
        ),
    ],
    "accept_job": [
        (
            "if redis.call('EXISTS', job) == 1 then",
            "if false then",
            accept.test_accept_sent_again_posts_once,
        ),
        (
            "owner and (is_stranger or ",
            "owner and (",
            accept.test_somebody_elses_thread_is_not_found,
        ),
        (
            "state == 'DELETING' or state == 'DELETED'",
            "false",
            accept.test_a_deleted_thread_is_not_found,
        ),
        ("if not active then", "if true then", accept.test_one_job_of_a_thread_at_a_time),
        (
            "if redis.call('LLEN', queue) >= a.queue_max then",
            "if false then",
            accept.test_a_queue_has_an_end,
        ),
        (
            "if a.letter and redis.call('XDEL', dead_key(a.prefix), a.letter) == 0 then",
            "if false then",
            dead_letters.test_a_message_takes_a_letter_with_it,
        ),
        (
            "redis.call('PERSIST', thread)",
            "",
            retention.test_a_new_message_keeps_a_thread_that_was_leaving,
        ),
    ],
    "request_cancel": [
        (
            "if status ~= 'queued' then",
            "if false then",
            accept.test_a_cancel_after_the_end_has_no_effect,
        ),
    ],
    "change_thread": [
        (
            "if string.find(requests, a.request_id, 1, true) then",
            "if false then",
            threads.test_a_change_sent_again_is_one_change,
        ),
        (
            "local REQUESTS = 8",
            "local REQUESTS = 1",
            repeats.test_a_change_does_not_win_over_a_later_one,
        ),
        ("if is_stranger or ", "if ", threads.test_a_change_of_somebody_elses_thread_is_not_found),
        *PARTICIPANT_MUTATIONS,
        (
            "redis.call('PERSIST', thread)",
            "",
            retention.test_a_change_keeps_a_thread_that_was_leaving,
        ),
        (
            "if t[5] then",
            "if false then",
            threads.test_a_deletion_ends_what_waits_and_flags_what_runs,
        ),
    ],
    "create_thread": [
        (
            "if created_at then",
            "if false then",
            threads.test_create_sent_again_answers_with_the_first_time,
        ),
    ],
    "load_thread": [
        (
            "if redis.call('EXISTS', KEYS[1]) == 1 then",
            "if false then",
            threads.test_a_thread_that_is_there_knows_more_than_the_archive,
        ),
    ],
    "report_progress": [
        (
            "elseif position >= tonumber(t[3]) then",
            "else",
            retention.test_a_thread_leaves_only_when_all_of_it_is_archived,
        ),
        (
            "if t[5] then",
            "if false then",
            retention.test_a_thread_does_not_leave_while_a_job_is_alive,
        ),
        (
            "events_key(thread), position - keep",
            "events_key(thread), tonumber(t[3]) - keep",
            retention.test_a_stream_in_use_is_cut_behind_the_archive,
        ),
        (
            "cut = math.min(cut, ",
            "cut = math.max(cut, ",
            retention.test_a_stream_is_not_cut_inside_the_job_that_runs,
        ),
        (
            "if position > tonumber(t[2] or 0) then",
            "if true then",
            retention.test_a_late_report_takes_nothing_back,
        ),
        (
            "if moves(prefix, 'thread', thread_id, '', thread_id, state, target, 'persister') then",
            "if true then",
            retention.test_the_states_follow_the_persister,
        ),
        (
            "local settled = position >= tonumber(t[4] or 0)",
            "local settled = true",
            retention.test_lists_stay_dirty_until_the_last_change_is_archived,
        ),
    ],
    "trim_log": [
        (
            "pending[1] > 0 and pending[2] or ",
            "",
            retention.test_the_log_is_cut_behind_what_is_acknowledged,
        ),
        (
            "less(oldest, keep_from)",
            "less(keep_from, oldest)",
            retention.test_the_log_waits_for_its_slowest_group,
        ),
    ],
    **LETTER_MUTATIONS,
    **KEY_MUTATIONS,
}
