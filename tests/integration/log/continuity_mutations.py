"""The mechanisms that keep numbers from being given out twice, and the tests that guard them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.integration.log import test_continuity as continuity
from tests.integration.log import test_resume as resuming
from tests.support.log_server import LogServer

Guard = Callable[..., Awaitable[None]]
Edit = tuple[str, str, Guard]
GATE = "if closed then return closed end"


def _refused(write: continuity.Write) -> Edit:
    """Without its gate a script writes into a closed partition."""

    async def guard(server: LogServer) -> None:
        await continuity.test_a_closed_partition_takes_no_writes(server, write)

    guard.__name__ = (
        f"{continuity.test_a_closed_partition_takes_no_writes.__name__}-{write.__name__}"
    )
    return GATE, "", guard


def _not_given_back(became: resuming.Became) -> Guard:
    async def guard(server: LogServer) -> None:
        await resuming.test_an_attempt_that_is_somebody_elses_is_not_given_back(server, became)

    guard.__name__ = f"test_an_attempt_{became.__name__}_is_not_given_back"
    return guard


GATES: dict[str, list[Edit]] = {
    "accept_job": [_refused(continuity.Scene.post)],
    "append_events": [_refused(continuity.Scene.append)],
    "begin_attempt": [_refused(continuity.Scene.begin)],
    "change_thread": [_refused(continuity.Scene.rename)],
    "create_thread": [_refused(continuity.Scene.create)],
    "load_thread": [_refused(continuity.Scene.load)],
    "request_cancel": [_refused(continuity.Scene.cancel)],
    "retry_letter": [_refused(continuity.Scene.retry)],
}
CONTINUITY: dict[str, list[Edit]] = {
    "open_partition": [
        (
            "if redis.call('HGET', KEYS[1], 'life') ~= ARGV[1] then return 0 end",
            "",
            continuity.test_who_made_sure_of_an_earlier_life_cannot_open,
        ),
    ],
    "resume_attempt": [
        (GATE, "", continuity.test_a_closed_partition_gives_no_attempt_back),
        (
            "if not status then return {'UNKNOWN', 0} end",
            "if not status then return {'FENCED', 0} end",
            resuming.test_no_attempt_of_an_unknown_job_is_given_back,
        ),
        (
            "if status ~= 'queued' and status ~= 'running' then",
            "if false then",
            _not_given_back(resuming.over),
        ),
        (
            "if j[4] == ARGV[4] then",
            "if false then",
            resuming.test_resumed_again_after_it_has_gone_on,
        ),
        ("if j[4] ~= '' then", "if false then", _not_given_back(resuming.begun_in_its_place)),
        ("if j[4] ~= '' then", "if false then", _not_given_back(resuming.handed_over)),
        (
            "redis.call('HSET', job, 'owner_token', ARGV[4], 'status', 'running')",
            "",
            resuming.test_an_attempt_the_archive_knew_is_resumed,
        ),
        (
            "tonumber(j[2]) ~= attempt - 1 or ",
            "",
            _not_given_back(resuming.passed_by_its_elder),
        ),
        (
            " or last ~= seq - 1",
            "",
            resuming.test_no_attempt_is_resumed_from_which_events_are_missing_in_front,
        ),
        (
            "redis.call('SPUBLISH', thread, line)",
            "",
            resuming.test_what_a_resumption_appends_is_published,
        ),
    ],
    "renew_lease": [
        (
            " or (attempt == mine and j[2] == '')",
            "",
            resuming.test_a_renewal_tells_of_an_attempt_that_redis_has_lost,
        ),
        (
            " or attempt < mine",
            "",
            resuming.test_a_renewal_tells_of_an_attempt_that_redis_has_lost,
        ),
        (
            "attempt == mine and j[2] == ''",
            "j[2] == ''",
            resuming.test_a_renewal_of_a_superseded_attempt_is_no_doubt,
        ),
    ],
}
