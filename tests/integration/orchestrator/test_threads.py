"""Several questions in a thread: their order, and what of it the model gets to read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from services.persister.app import assemble
from services.persister.consumer import make_broker
from shared.commands import RunJob
from shared.postgres import create_engine
from shared.settings import Settings
from tests.integration.orchestrator.conftest import ECHO_PROMPT
from tests.integration.orchestrator.gateway import Event, Gateway, words
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench
from tests.support.model_server import ModelServer


async def stays(gateway: Gateway, thread_id: str) -> list[tuple[str, str]]:
    """When the jobs of a thread began and ended, in the order of the stream."""
    records = await gateway.records(thread_id)
    return [(r.stream, r.type) for r in records if r.type in ("started", "done")]


def one_by_one(commands: Sequence[RunJob]) -> list[tuple[str, str]]:
    return [(command.job_id, kind) for command in commands for kind in ("started", "done")]


async def test_questions_are_answered_one_at_a_time_in_their_order(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker():
        first = await gateway.ask(agent="brief")
        others = [await gateway.ask(agent="brief", thread_id=first.thread_id) for _ in range(4)]
        await gateway.done(others[-1])
    assert await stays(gateway, first.thread_id) == one_by_one([first, *others])


async def test_an_interruption_cancels_what_runs_and_goes_before_what_waits(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker():
        running = await gateway.ask(agent="slow")
        await gateway.saying(running, tokens=3)
        waiting = await gateway.ask(agent="brief", thread_id=running.thread_id)
        urgent = await gateway.ask(agent="brief", thread_id=running.thread_id, on_busy="interrupt")
        events = await gateway.done(waiting)
    assert events[-1]["status"] == "done"
    assert await stays(gateway, running.thread_id) == one_by_one([running, urgent, waiting])
    cancelled = (await gateway.done(running))[-1]
    assert cancelled["status"] == "cancelled"
    assert words(1, 100).startswith(cancelled["content"])
    assert cancelled["content"] not in ("", words(1, 100))


async def test_threads_do_not_wait_for_each_other(
    bench: Bench, gateway: Gateway, model: ModelServer
) -> None:
    async with bench.worker():
        commands = [await gateway.ask(agent="slow") for _ in range(6)]
        await asyncio.gather(*(gateway.saying(command) for command in commands))
        assert model.statistics.open_streams == 6
        for command in commands:
            assert (await gateway.done(command))[-1]["status"] == "done"


async def answer(gateway: Gateway, question: str, thread_id: str) -> Event:
    """The end of a job, told by its hash: the thread's stream may have been cut."""
    command = await gateway.ask(question, agent="echo", thread_id=thread_id)

    async def is_over() -> bool:
        return (await gateway.job(command)).is_over

    await until(is_over)
    return json.loads((await gateway.job(command)).done or b"{}")


def context(end: Event) -> str:
    """What the model was given beside the system prompt: it echoes all messages."""
    return end["content"].removeprefix(f"{ECHO_PROMPT}\n")


def dialogue(*ends: Event, questions: Sequence[str]) -> str:
    """Questions and answers, and a last question, as the model echoes them."""
    said = [
        text
        for question, end in zip(questions, ends, strict=False)
        for text in (question, end["content"])
    ]
    return "\n".join([*said, questions[-1]])


async def archive_all(settings: Settings, gateway: Gateway, thread_id: str) -> None:
    """A persister's work, up to now."""
    redis_url = settings.required("redis_url")
    engine = create_engine(settings.required("database_url"), application="test")
    broker = make_broker(redis_url, drain_seconds=5)
    persister = assemble(settings, redis=gateway.redis, broker=broker, engine=engine)

    async def is_archived() -> bool:
        thread = await gateway.hot.thread(thread_id)
        return thread is not None and thread.archived == thread.position

    try:
        await persister.start()
        await until(is_archived)
    finally:
        await persister.stop()
        await engine.dispose()


async def cut(gateway: Gateway, thread_id: str) -> None:
    """Redis lets go of the events, as it does in a long thread once they are archived."""
    await gateway.redis.xtrim(gateway.keys(thread_id).thread_events(thread_id), maxlen=0)


async def test_the_context_is_what_redis_still_holds(bench: Bench, gateway: Gateway) -> None:
    thread = gateway.thread_in(0)
    async with bench.worker():
        first = await answer(gateway, "one", thread)
        second = await answer(gateway, "two", thread)
        third = await answer(gateway, "three", thread)
    assert context(first) == "one"
    assert context(second) == dialogue(first, questions=["one", "two"])
    assert context(third) == dialogue(first, second, questions=["one", "two", "three"])


async def test_the_context_is_what_postgres_holds(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    thread = gateway.thread_in(0)
    async with bench.worker(database_url=database_url):
        first = await answer(gateway, "one", thread)
        await archive_all(bench.settings(database_url=database_url), gateway, thread)
        await cut(gateway, thread)
        second = await answer(gateway, "two", thread)
    assert context(second) == dialogue(first, questions=["one", "two"])


async def test_the_context_is_what_postgres_and_redis_hold_together(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    thread = gateway.thread_in(0)
    async with bench.worker(database_url=database_url):
        first = await answer(gateway, "one", thread)
        await archive_all(bench.settings(database_url=database_url), gateway, thread)
        await cut(gateway, thread)
        second = await answer(gateway, "two", thread)
        third = await answer(gateway, "three", thread)
    assert context(third) == dialogue(first, second, questions=["one", "two", "three"])


async def test_a_question_waits_for_the_archive_its_context_is_in(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    """Answering without what was said would be wrong; the job's deadline bounds the wait."""
    thread = gateway.thread_in(0)
    async with bench.worker():
        await answer(gateway, "one", thread)
    await archive_all(bench.settings(database_url=database_url), gateway, thread)
    async with bench.worker(job_deadline_seconds=0.7):  # there is no Postgres
        end = await answer(gateway, "two", thread)
    assert (end["status"], end["content"]) == ("failed", "")


async def test_a_question_that_waits_is_no_context_of_an_earlier_one(
    bench: Bench, gateway: Gateway
) -> None:
    thread = gateway.thread_in(1)
    commands = [
        await gateway.ask(question, agent="echo", thread_id=thread)
        for question in ("one", "two", "three")
    ]
    async with bench.worker():
        first, second, third = [(await gateway.done(command))[-1] for command in commands]
    assert context(first) == "one"
    assert context(second) == dialogue(first, questions=["one", "two"])
    assert context(third) == dialogue(first, second, questions=["one", "two", "three"])


async def test_what_was_asked_later_is_no_context_even_when_it_was_answered_before(
    bench: Bench, gateway: Gateway
) -> None:
    async with bench.worker():
        running = await gateway.ask("first", agent="slow")
        await gateway.saying(running)
        thread = running.thread_id
        waiting = await gateway.ask("waiting", agent="echo", thread_id=thread)
        urgent = await gateway.ask("urgent", agent="echo", thread_id=thread, on_busy="interrupt")
        end = (await gateway.done(waiting))[-1]
        interrupted = (await gateway.done(running))[-1]
        said_first = (await gateway.done(urgent))[-1]
    assert context(end) == dialogue(interrupted, questions=["first", "waiting"])
    assert context(said_first) == dialogue(interrupted, questions=["first", "urgent"])


async def test_a_long_thread_is_cut_to_the_model_by_whole_turns(
    bench: Bench, gateway: Gateway
) -> None:
    thread = gateway.thread_in(0)
    long = "x" * 600
    async with bench.worker(llm_context_tokens=300):
        await gateway.done(await gateway.ask(long, agent="brief", thread_id=thread))
        kept = await gateway.done(await gateway.ask("kept", agent="brief", thread_id=thread))
        end = await answer(gateway, "now", thread)
    assert context(end) == dialogue(kept[-1], questions=["kept", "now"])
