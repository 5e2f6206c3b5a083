"""Sources: what was found, told before the first word and handed to the model; or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from services.orchestrator.found_messages import Place, find_messages
from services.orchestrator.graph.prompt import SOURCES_HEAD
from services.orchestrator.graph.recollection import Hidden
from shared.archive import Archive
from shared.commands import RunJob
from shared.errors import ArchiveUnavailable
from shared.postgres import create_engine
from tests.integration.orchestrator.gateway import Event, Gateway, kinds
from tests.integration.orchestrator.models import Listening
from tests.integration.orchestrator.test_summaries import listening
from tests.integration.orchestrator.test_threads import archive_all, cut
from tests.integration.orchestrator.waiting import until
from tests.integration.orchestrator.workers import Bench
from tests.support.model_calls import calls
from tests.support.model_server import ModelServer

FACTS = [
    "the boat of my aunt is called Meerschaum",
    "내 고양이 이름은 나비입니다",
    "the key lies under the third flower pot",
    "my bicycle is green and squeaks",
    "the meeting was moved to Thursday",
    "the soup needs more salt than the book says",
    "our neighbour plays the cello at night",
    "the train to the coast leaves at seven",
]
FILLING = " and so on" * 25


@dataclass(frozen=True)
class Found:
    file_id: str
    name: str
    number: int
    text: str


class Files:
    """Finds the same passages whatever is asked, and remembers what was."""

    def __init__(self, *passages: Found) -> None:
        self.passages, self.asked = passages, list[tuple[str, str]]()

    async def __call__(
        self, archive: Archive, thread_id: str, query: str, *, limit: int
    ) -> Sequence[Found]:
        self.asked.append((thread_id, query))
        return self.passages[:limit]


def given(monkeypatch: pytest.MonkeyPatch, find_passages: Any) -> None:
    monkeypatch.setattr("services.orchestrator.app.find_passages", find_passages)


@pytest.fixture
def pdf(monkeypatch: pytest.MonkeyPatch) -> Files:
    files = Files(Found("file_1", "rivers.pdf", 1, "The Han flows west."))
    given(monkeypatch, files)
    return files


async def asked(gateway: Gateway, question: str, thread: str, **fields: Any) -> RunJob:
    command = await gateway.ask(question, thread_id=thread, **fields)

    async def is_over() -> bool:
        return (await gateway.job(command)).is_over

    await until(is_over)
    return command


def sources(events: list[Event]) -> list[dict[str, str]]:
    found = [event["metadata"]["sources"] for event in events if event["type"] == "metadata"]
    return found[0] if found else []


async def test_passages_of_files_are_told_before_the_first_token_and_shown_to_the_model(
    bench: Bench, gateway: Gateway, model: ModelServer, pdf: Files
) -> None:
    thread = gateway.thread_in(0)
    async with listening(model) as heard, bench.worker(model=heard):
        await asked(gateway, "hello", thread)
        command = await asked(gateway, "where does the river flow", thread)
    events = await gateway.done(command)
    assert kinds(events) == ["started", "metadata", "token", "done"]
    told = {"file_id": "file_1", "name": "rivers.pdf", "passage": "The Han flows west."}
    assert sources(events) == [told]
    shown = heard.requests[-1].messages[-1].content
    assert shown.startswith(f"{SOURCES_HEAD}\n\n[rivers.pdf] The Han flows west.\n\n")
    assert shown.endswith("\n\nwhere does the river flow")
    assert pdf.asked == [(thread, "where does the river flow")]


async def test_a_first_question_has_nothing_to_be_found(
    bench: Bench, gateway: Gateway, pdf: Files
) -> None:
    async with bench.worker():
        events = await gateway.done(await gateway.ask("where does the river flow"))
    assert (kinds(events), pdf.asked) == (["started", "token", "done"], [])


async def test_an_agent_may_do_without(bench: Bench, gateway: Gateway, pdf: Files) -> None:
    bench.agent("plain", "fake:tokens=3", retrieval=False)
    async with bench.worker():
        first = await gateway.ask("hello", agent="plain")
        second = await gateway.ask("flows", agent="plain", thread_id=first.thread_id)
        assert kinds(await gateway.done(second)) == ["started", "token", "done"]
    assert pdf.asked == []


async def test_a_passage_that_the_question_has_is_not_told_again(
    bench: Bench, gateway: Gateway, pdf: Files
) -> None:
    thread = gateway.thread_in(0)
    async with bench.worker():
        await asked(gateway, "hello", thread)
        command = await asked(gateway, "The Han flows west. Is it true?", thread)
        assert kinds(await gateway.done(command)) == ["started", "token", "done"]


class Away:
    async def __call__(
        self, archive: Archive, thread_id: str, query: str, *, limit: int
    ) -> Sequence[Found]:
        raise ArchiveUnavailable("away")


class Hangs:
    async def __call__(
        self, archive: Archive, thread_id: str, query: str, *, limit: int
    ) -> Sequence[Found]:
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize("find", [Away(), Hangs()])
async def test_without_an_archive_the_answer_goes_on_without_sources(
    bench: Bench, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, find: Any
) -> None:
    monkeypatch.setattr("services.orchestrator.finder.FIND_SECONDS_MAX", 0.2)
    given(monkeypatch, find)
    thread = gateway.thread_in(0)
    async with bench.worker():
        await asked(gateway, "hello", thread)
        events = await gateway.done(await asked(gateway, "flows", thread), seconds=3)
    assert (kinds(events), events[-1]["status"]) == (["started", "token", "done"], "done")


def small(bench: Bench, **fields: Any) -> None:
    """An agent that cannot hold more than a few turns, and does not sum them up."""
    window: dict[str, Any] = {"max_tokens": 60, "context_tokens": 640, "system_prompt": "p"}
    bench.agent("small", "fake:tokens=3", **{**window, **fields})


async def facts(gateway: Gateway, thread: str) -> list[RunJob]:
    return [await asked(gateway, fact + FILLING, thread, agent="small") for fact in FACTS]


async def archived(bench: Bench, gateway: Gateway, thread: str, database_url: str) -> None:
    await archive_all(bench.settings(database_url=database_url), gateway, thread)
    await cut(gateway, thread)


async def newest(gateway: Gateway, command: RunJob) -> list[Event]:
    """A job's events, in a thread of which Redis holds the newest ones alone."""
    records = await gateway.records(command.thread_id)
    return [orjson.loads(record.data) for record in records if record.stream == command.job_id]


def found_ids(events: list[Event]) -> list[str]:
    return [source["message_id"] for source in sources(events)]


async def test_messages_beyond_the_window_are_found_and_those_in_it_are_not(
    bench: Bench, gateway: Gateway, model: ModelServer, database_url: str
) -> None:
    small(bench)
    thread = gateway.thread_in(0)
    async with listening(model) as heard, bench.worker(model=heard, database_url=database_url):
        told = await facts(gateway, thread)
        await archived(bench, gateway, thread, database_url)
        boat = await asked(gateway, "What is the name of my aunt's boat?", thread, agent="small")
        cat = await asked(gateway, "고양이가 어디 있어요?", thread, agent="small")
        train = await asked(gateway, "When does the train leave?", thread, agent="small")
        nothing = await asked(gateway, "xylophone", thread, agent="small")
        events = [await newest(gateway, each) for each in (boat, cat, train, nothing)]
    assert found_ids(events[0])[0] == told[0].message_id
    assert sources(events[0])[0]["passage"].startswith("the boat of my aunt")
    assert found_ids(events[1])[0] == told[1].message_id
    window = _shown(heard, "When does the train leave?")
    assert told[7].content in window, "the newest turn is shown"
    assert told[7].message_id not in found_ids(events[2])
    assert found_ids(events[3]) == []


def _shown(heard: Listening, question: str) -> list[str]:
    [request] = [r for r in heard.requests if r.messages[-1].content.endswith(question)]
    return [message.content for message in request.messages]


async def found_in_postgres(database_url: str, thread: str, query: str) -> list[str]:
    """By what the archive alone says, as of a turn that is too far back to be read with others."""
    engine = create_engine(database_url, application="test")
    try:
        place = Place(thread, 10_000, 10_000, Hidden())
        found = await find_messages(Archive(engine), place, query, limit=5)
    finally:
        await engine.dispose()
    return [one.excerpt for one in found]


@pytest.mark.parametrize("is_archived", [True, False])
@pytest.mark.parametrize("how", ["nothing", "deleted", "replaced", "itself replacing"])
async def test_what_no_longer_stands_is_not_found(
    bench: Bench, gateway: Gateway, database_url: str, how: str, is_archived: bool
) -> None:
    """Also while the archive does not know that yet."""
    thread, boat, key = gateway.thread_in(0), FACTS[0], FACTS[2]
    wanted = calls(("search_messages", {"query": "key pot boat"}))
    bench.agent("seeker", f"fake:call={wanted}", tools=("search_messages",))
    async with bench.worker(database_url=database_url):
        told = [await asked(gateway, fact, thread) for fact in FACTS]
        await archived(bench, gateway, thread, database_url)
        replaces = told[2].message_id, (await gateway.job(told[2])).first
        if how == "deleted":
            await gateway.delete(told[2])
        elif how == "replaced":
            await asked(gateway, "let us begin again", thread, replaces=replaces)
        if is_archived:
            await archived(bench, gateway, thread, database_url)
        last = replaces if how == "itself replacing" else None
        command = await asked(gateway, "look", thread, agent="seeker", replaces=last)
        events = await newest(gateway, command)
    [result] = [event["content"] for event in events if event["type"] == "tool_result"]
    found = [one["text"] for one in orjson.loads(result)]
    assert found == ([key, boat] if how == "nothing" else [boat])
    if is_archived and how in ("deleted", "replaced"):
        assert await found_in_postgres(database_url, thread, "key pot boat") == [boat]


async def test_a_deleted_message_is_no_source(
    bench: Bench, gateway: Gateway, database_url: str
) -> None:
    small(bench)
    thread = gateway.thread_in(0)
    async with bench.worker(database_url=database_url):
        told = await facts(gateway, thread)
        await archived(bench, gateway, thread, database_url)
        await gateway.delete(told[2])
        question = "Where is the key? under the flower pot? Ask my aunt."
        command = await asked(gateway, question, thread, agent="small")
        found = found_ids(await newest(gateway, command))
    assert told[0].message_id in found
    assert told[2].message_id not in found


async def test_tools_search_the_thread_and_its_files(
    bench: Bench, gateway: Gateway, database_url: str, pdf: Files
) -> None:
    wanted = calls(
        ("search_messages", {"query": "boat aunt"}),
        ("search_messages", {"query": "xylophone"}),
        ("search_files", {"query": "river"}),
    )
    small(bench)
    tools = {"tools": ("search_messages", "search_files"), "retrieval": False}
    bench.agent("seeker", f"fake:call={wanted},tokens=2", **tools)
    thread, other = gateway.thread_in(0), gateway.thread_in(1)
    async with bench.worker(database_url=database_url):
        await facts(gateway, thread)
        await asked(gateway, "the boat of my aunt in another thread", other)
        for each in (thread, other):
            await archived(bench, gateway, each, database_url)
        events = await newest(gateway, await asked(gateway, "look", thread, agent="seeker"))
    first, second, third = (e["content"] for e in events if e["type"] == "tool_result")
    assert [one["role"] for one in orjson.loads(first)] == ["user"]
    assert orjson.loads(first)[0]["text"].startswith("the boat of my aunt is called Meerschaum")
    assert second == "nothing was found"
    assert orjson.loads(third) == [{"file": "rivers.pdf", "text": "The Han flows west."}]
    assert pdf.asked[-1] == (thread, "river")
