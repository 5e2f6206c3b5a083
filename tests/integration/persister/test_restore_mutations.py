"""The tests of restoring can fail: each mechanism taken out of its script breaks the one named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.orchestrator.job_writer import LeaseLost
from shared.errors import HeadwaterError
from shared.redis_client import RedisError
from shared.settings import Settings
from tests.integration.log.test_mutations import edit_script
from tests.integration.persister import test_forgotten_jobs as forgotten
from tests.integration.persister import test_restore as restoring
from tests.integration.persister import test_restore_changes as changes
from tests.integration.persister import test_restore_emptied as emptied
from tests.integration.persister import test_torn_threads as torn
from tests.integration.persister.writer import Writer
from tests.support.servers import Server

pytestmark = pytest.mark.mutations

# How a test fails: what it saw is not so, or the server refused the script.
FAILURES = (
    AssertionError, HeadwaterError, IndexError, KeyError, LeaseLost, RedisError, TypeError,
    ValueError, pytest.fail.Exception,
)  # fmt: skip
Mutation = tuple[str, str, Callable[..., Awaitable[None]]]
MUTATIONS: list[Mutation] = [
    (
        "if redis.call('HGET', meta_key(thread), 'life') ~= a.life then return {'OVER'} end",
        "",
        torn.test_a_hole_that_redis_no_longer_fills_is_not_built_on,
    ),
    (
        "if tonumber(ARGV[i]) == position + 1 then",
        "if true then",
        restoring.test_a_call_whose_reply_is_lost_is_harmless,
    ),
    (
        "if redis.call('EXISTS', thread) == 0 or position > before then",
        "if position > before then",
        emptied.test_a_job_that_ran_goes_on_above_what_is_archived,
    ),
    (
        "redis.call('HSET', thread, 'position', position)",
        "",
        restoring.test_nothing_behind_an_old_hole_of_the_archive_is_put_back,
    ),
    (
        "not known[1] or tonumber(known[2]) < j.facts.seq",
        "true",
        forgotten.test_what_redis_knows_better_stays,
    ),
    (
        "redis.call('HSET', k.job, 'owner_token', '')",
        "",
        restoring.test_whose_an_attempt_is_must_be_proved,
    ),
    (
        "if j.done then",
        "if false then",
        restoring.test_a_waiting_job_starts_when_its_predecessors_end_is_restored,
    ),
    (
        "if active == j.job_id or not (active or waits) then",
        "if true then",
        emptied.test_what_waited_waits_again,
    ),
    (
        "if not entry or #redis.call('XRANGE', commands, entry, entry) == 0 then",
        "if true then",
        restoring.test_a_second_restore_changes_nothing,
    ),
    (
        "#redis.call('XRANGE', commands, entry, entry) == 0",
        "false",
        forgotten.test_what_redis_knows_better_stays,
    ),
    (
        "redis.call('HSETNX', k.job, 'command', j.command)",
        "",
        emptied.test_what_waited_waits_again,
    ),
    (
        "if not waits then redis.call('RPUSH', queue, j.job_id) end",
        "redis.call('RPUSH', queue, j.job_id)",
        restoring.test_a_second_restore_changes_nothing,
    ),
    (
        "if a.thread.state == 'DELETED' or j.is_unwanted then",
        "if j.is_unwanted then",
        restoring.test_a_job_that_its_threads_deletion_flagged_is_flagged_again,
    ),
    (
        "if a.thread.state == 'DELETED' or j.is_unwanted then",
        "if a.thread.state == 'DELETED' then",
        changes.test_a_job_whose_message_was_deleted_is_flagged_again,
    ),
    (
        "j.facts.attempt = math.max(j.facts.attempt, tonumber(known[3] or 0))",
        "",
        torn.test_an_attempt_whose_beginning_is_not_archived_keeps_its_number,
    ),
    (
        "redis.call('PERSIST', thread)",
        "",
        restoring.test_what_was_archived_is_as_it_was,
    ),
]


@pytest.mark.parametrize(
    "mutation",
    MUTATIONS,
    ids=[f"{number}-{guard.__name__}" for number, (_, _, guard) in enumerate(MUTATIONS, start=1)],
)
async def test_without_the_mechanism(
    writer: Writer,
    settings: Settings,
    engine: AsyncEngine,
    valkey_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mutation: Mutation,
) -> None:
    old, new, guard = mutation
    edit_script("restore_thread", old, new, folder=tmp_path)
    monkeypatch.setattr("shared.redis_scripts.files", lambda _: tmp_path)
    given: dict[str, Any] = {
        "writer": writer,
        "settings": settings,
        "engine": engine,
        "valkey_server": valkey_server,
        "monkeypatch": monkeypatch,
    }
    wanted = {name: given[name] for name in signature(guard).parameters}
    with pytest.raises(FAILURES):
        await guard(**wanted)
