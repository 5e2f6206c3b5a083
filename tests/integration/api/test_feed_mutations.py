"""The tests can fail: every mechanism of the feed, taken out, breaks the test that guards it.

A mutation is one edit of one function: its old text, its new text, and a test which passes on the
function as it is. With the edit in place, the test must fail.
"""

from __future__ import annotations
import __future__

import asyncio
import inspect
import textwrap
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from services.api import feed, follower, pages
from shared import channels
from shared import thread_stream as history
from shared.archive import Archive
from shared.postgres import create_engine
from shared.settings import Settings
from shared.thread_stream import ThreadStream
from tests.integration.api import sse_client, test_feed, test_feed_losses, test_rewound, waiting
from tests.integration.api import test_follower as of_follower
from tests.integration.api import test_history as of_history
from tests.integration.api.gateways import running_gateway
from tests.integration.api.worker import Worker

pytestmark = pytest.mark.mutations

PATIENCE_SECONDS = 0.6  # the guards take a fraction of it when nothing is taken out
GUARD_SECONDS_MAX = 3.0
# How a test fails: what it saw is not so, or it saw nothing.
FAILURES = (AssertionError, TimeoutError, ExceptionGroup, pytest.fail.Exception)


class Mutation(NamedTuple):
    """``owner.name`` is the function."""

    owner: Any
    name: str
    old: str
    new: str
    guard: Callable[..., Awaitable[None]]


MUTATIONS = {
    "confirmed subscription makes no reader": Mutation(
        feed.Feed,
        "_confirmed",
        "watched.confirm()",
        "pass",
        test_feed_losses.test_what_is_said_while_the_connection_is_lost_is_read_once_it_is_back,
    ),
    "jump to the cursor unseen": Mutation(
        follower.Follower,
        "_take_buffer",
        "if records[0].position != self.cursor + 1:",
        "if False:",
        of_follower.test_a_jump_to_the_cursor_is_read,
    ),
    "jump within the buffer unseen": Mutation(
        follower.Follower,
        "offer",
        "records[0].position != self._buffer[-1].position + 1",
        "False",
        of_follower.test_a_jump_within_the_buffer_is_read,
    ),
    "buffer runs over and nobody reads": Mutation(
        follower.Follower,
        "offer",
        "if self._buffered_bytes > BUFFER_BYTES_MAX:\n            self.fall_behind()",
        "if self._buffered_bytes > BUFFER_BYTES_MAX:\n            self._drop_buffer()",
        of_follower.test_what_runs_over_is_read,
    ),
    "buffer without bound": Mutation(
        follower.Follower,
        "offer",
        "if self._buffered_bytes > BUFFER_BYTES_MAX:",
        "if False:",
        of_follower.test_what_runs_over_is_read,
    ),
    "buffer goes out again behind a read": Mutation(
        follower.Follower,
        "_take_buffer",
        "if record.position > self.cursor",
        "if True",
        of_follower.test_what_was_read_and_heard_is_given_once,
    ),
    "level only after reading": Mutation(
        follower.Follower,
        "_catch_up",
        "self._behind = False  # before reading: whatever comes meanwhile counts",
        "pass",
        of_follower.test_the_end_comes_at_once_while_it_waits,
    ),
    "first page taken for all": Mutation(
        follower.Follower,
        "_catch_up",
        "if more:",
        "if False:",
        of_follower.test_a_long_stream_is_read_in_pages,
    ),
    "reading is not cut short": Mutation(
        follower.Follower,
        "end",
        "self._reading.reschedule(0)",
        "pass",
        of_follower.test_the_end_comes_at_once_while_it_reads,
    ),
    "no ping while others speak": Mutation(
        follower.Follower,
        "next",
        "if self._ping_due:",
        "if self._ping_due and self.is_level:",
        of_follower.test_a_ping_is_due_also_while_only_others_speak,
    ),
    "another record at the cursor passes": Mutation(
        follower.Follower,
        "_stands",
        "if self._contradicts(records):",
        "if False:",
        test_rewound.test_who_was_given_what_is_gone_does_not_go_on_behind_it,
    ),
    "nothing at the cursor passes": Mutation(
        follower.Follower,
        "_stands",
        "return await self._wait_for_the_lost()",
        "return True",
        test_rewound.test_who_was_given_what_is_gone_for_good_is_sent_away,
    ),
    "nothing at the cursor ends it at once": Mutation(
        follower.Follower,
        "_wait_for_the_lost",
        "time.monotonic() - self._missing_since < REWOUND_SECONDS_MAX",
        "False",
        test_rewound.test_what_comes_back_is_gone_on_with,
    ),
    "the archive's last one is read for ever": Mutation(
        pages.Pages,
        "read",
        "if more and cursor and len(records) == 1:",
        "if False:",
        of_history.test_a_thread_that_comes_back_goes_on_where_it_was,
    ),
    "nobody sweeps": Mutation(
        feed.Feed,
        "_sweep",
        "places = self._silent()",
        "return",
        test_feed.test_a_publish_that_nobody_heard_is_found,
    ),
    "sweep asks whoever knows most": Mutation(
        feed._Watched,
        "place",
        "min(",
        "max(",
        test_feed.test_a_viewer_who_knows_more_does_not_hide_what_another_misses,
    ),
    "the last to leave keeps the subscription": Mutation(
        feed.Feed,
        "leave",
        "self._channels.drop(channel)",
        "pass",
        test_feed.test_clients_that_vanish_leave_nothing_behind,
    ),
    "a strange publish ends the listening": Mutation(
        feed.Feed,
        "_heard",
        "except ValueError:",
        "except KeyError:",
        test_feed.test_a_publish_that_is_none_of_ours_harms_nobody,
    ),
    "no archive": Mutation(
        history.ThreadStream,
        "archived",
        "await self._archive.records(thread_id, after=place, count=count)",
        "[]",
        of_history.test_head_from_the_archive,
    ),
    "a trimmed stream passes for whole": Mutation(
        history,
        "_continues",
        "records[0].position == place + 1",
        "True",
        of_history.test_head_from_the_archive,
    ),
    "a hole in the archive passes": Mutation(
        history,
        "_unbroken",
        "pair[0] == pair[1].position",
        "True",
        of_history.test_a_hole_in_the_archive_is_not_passed_over,
    ),
    "the archive's end passes for the stream's": Mutation(
        history.ThreadStream,
        "archived",
        "(records, place), True)",
        "(records, place), len(records) == count)",
        of_history.test_an_archive_that_lags_is_not_the_end,
    ),
    "what nobody has passes for the end": Mutation(
        history.ThreadStream,
        "behind",
        "(records or (thread and thread.position > place))",
        "False",
        of_history.test_what_nobody_has_is_told_and_never_passed_over,
    ),
    "one look at Redis": Mutation(
        history.ThreadStream,
        "behind",
        "# Neither had it: it came between the looks, or this is the end of an archived thread.",
        "return Page([], False)",
        of_history.test_what_comes_between_two_looks_is_found,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "SWEEP_SECONDS", test_feed.SWEEP_SECONDS)
        patch.setattr(channels, "RECONNECT_SECONDS", 0.02)
        patch.setattr(waiting, "WAIT_SECONDS_MAX", PATIENCE_SECONDS)
        patch.setattr(sse_client, "READ_SECONDS_MAX", PATIENCE_SECONDS)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    engine = create_engine(settings.required("database_url"), application="test")
    yield engine
    await engine.dispose()


def mutate(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the function in place that its edited source makes."""
    function = inspect.unwrap(getattr(mutation.owner, mutation.name))
    source = textwrap.dedent(inspect.getsource(function))
    old = textwrap.dedent(mutation.old)
    edited = source.replace(_shifted(old), _shifted(mutation.new))
    assert source.count(_shifted(old)) == 1, f"{mutation.name} does not read like this once: {old}"
    code = compile(
        edited, function.__code__.co_filename, "exec", __future__.annotations.compiler_flag
    )
    names: dict[str, Any] = {}
    exec(code, function.__globals__, names)
    monkeypatch.setattr(mutation.owner, mutation.name, names[mutation.name])


def _shifted(text: str) -> str:
    """Methods lose four columns when their source is dedented."""
    return text.replace("\n    ", "\n")


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
async def test_without_the_mechanism(
    mutation: Mutation,
    worker: Worker,
    settings: Settings,
    engine: AsyncEngine,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {
        "worker": worker,
        "settings": settings,
        "engine": engine,
        "history": ThreadStream(worker.hot, Archive(engine)),
        "monkeypatch": monkeypatch,
        "silently": False,
        "stalling": False,
    }
    mutate(mutation, monkeypatch)
    async with running_gateway(settings) as gateway, gateway.client(user) as client:
        given |= {"gateway": gateway, "client": client}
        wanted = {name: given[name] for name in inspect.signature(mutation.guard).parameters}
        with pytest.raises(FAILURES):
            async with asyncio.timeout(GUARD_SECONDS_MAX):
                await mutation.guard(**wanted)
