"""What a question's files say reaches the model, from Redis or Postgres, within its window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from shared.events import Attachment, FileAdded, FilePassages
from shared.ids import new_file_id
from shared.thread_log import ThreadLog
from shared.times import utc_now
from tests.integration.orchestrator.gateway import USER, Event, Gateway, kinds
from tests.integration.orchestrator.test_threads import archive_all
from tests.integration.orchestrator.workers import Bench

WINDOW_TOKENS = 80  # of which files take half: two of the passages below


@pytest.fixture
def bench(bench: Bench) -> Bench:
    bench.agent("echo", "fake:echo")
    return bench


async def add(
    gateway: Gateway, thread: str, texts: Sequence[str], name: str = "a.txt"
) -> Attachment:
    """Put a file into a thread that is there, with its passages in an event each."""
    log = ThreadLog(gateway.redis, gateway.partitions, idle_ttl_seconds=600)
    head: dict[str, Any] = {"thread_id": thread, "at": utc_now()}
    head["file_id"] = new_file_id(thread)
    facts: dict[str, Any] = {
        "user": USER,
        "media_type": "text/plain",
        "size": 1,
        "sha256": "0" * 64,
    }
    added = FileAdded(**head, name=name, **facts)
    passages = [FilePassages(**head, first=n, texts=(text,)) for n, text in enumerate(texts, 1)]
    await log.change_thread(USER, added, behind=passages)
    return added.as_attachment()


async def thread_of(gateway: Gateway) -> str:
    return (await gateway.ask("hello", agent="echo")).thread_id


async def answer(gateway: Gateway, thread: str, *files: Attachment, question: str) -> list[Event]:
    command = await gateway.ask(question, agent="echo", thread_id=thread, attachments=files)
    return await gateway.done(command)


def sources(events: list[Event]) -> list[str]:
    """The passages that the client is told of."""
    [told] = [event["metadata"] for event in events if event["type"] == "metadata"]
    assert all(set(each) == {"file_id", "name", "passage"} for each in told["sources"])
    return [each["passage"] for each in told["sources"]]


@pytest.mark.parametrize("where", ["redis", "postgres"])
async def test_the_text_of_a_file_stands_before_the_question(
    bench: Bench, gateway: Gateway, database_url: str, where: str
) -> None:
    async with bench.worker(database_url=database_url):
        thread = await thread_of(gateway)
        one = await add(gateway, thread, ["Rivers rise.", "They fall."])
        other = await add(gateway, thread, ["Mills turn."], "b.txt")
        await add(gateway, thread, ["Nobody asked."], "c.txt")
        if where == "postgres":
            await archive_all(bench.settings(database_url=database_url), gateway, thread)
        events = await answer(gateway, thread, other, one, question="What now?")
    assert kinds(events) == ["started", "metadata", "token", "done"]
    assert sources(events) == ["Mills turn.", "Rivers rise.", "They fall."]
    text = "[b.txt]\nMills turn.\n\n[a.txt]\nRivers rise.\n\nThey fall.\n\nWhat now?"
    assert events[-1]["content"].endswith(text)
    assert "Nobody asked" not in events[-1]["content"]


async def test_of_a_long_text_what_speaks_of_the_question_is_taken(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    texts = [f"Passage {n} is of mills and of locks." for n in range(20)]
    texts[13] = "Here the herons nest."
    async with bench.worker(database_url=database_url, llm_context_tokens=WINDOW_TOKENS):
        thread = await thread_of(gateway)
        file = await add(gateway, thread, texts)
        await archive_all(bench.settings(database_url=database_url), gateway, thread)
        events = await answer(gateway, thread, file, question="Where do herons nest?")
        found = sources(events)
        assert found[0] == texts[13]
        assert sum(map(len, found)) <= WINDOW_TOKENS // 2 * 3
        events = await answer(gateway, thread, file, question="…")
        assert sources(events) == texts[:2]


async def test_a_file_without_text_adds_nothing(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    async with bench.worker(database_url=database_url):
        thread = await thread_of(gateway)
        file = await add(gateway, thread, [])
        events = await answer(gateway, thread, file, question="What is it?")
    assert kinds(events) == ["started", "token", "done"]
