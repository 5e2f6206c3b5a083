"""Names threads that have no title, once an answer is there to name them after.

    done ─▶ has the thread a title? ─ no ─▶ one short question to the model ─▶ thread.updated
                                                                      unless it has one by then

Only for agents that say so. It runs beside the jobs and takes none of their slots; nobody waits
for it.

Failures
    Anything            The thread stays without a title; the next answer tries again.
    Process drains      What is under way is dropped.
    Many answers at once  TITLES_AT_ONCE_MAX are asked for; the others are left out.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.orchestrator.model import ChatMessage, Model, ModelError, ModelRequest
from shared.agents import Agent
from shared.cancellation import end_tasks
from shared.commands import RunJob
from shared.errors import HeadwaterError
from shared.events import ThreadUpdated
from shared.hot_state import HotState
from shared.log_protocol import ThreadNotLoaded
from shared.observability import get_logger
from shared.thread_log import ThreadLog
from shared.times import utc_now

TITLES_AT_ONCE_MAX: Final = 4
TITLE_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 1.0
TITLE_CHARS_MAX: Final = 80
SHOWN_CHARS_MAX: Final = 1000  # of the question, and of the answer
ANSWER_TOKENS_MAX: Final = 24
ANSWER_CHARS_MAX: Final = 400
PROMPT: Final = (
    "Give this conversation a title of at most six words, in its own language."
    " Answer with the title alone."
)

log = get_logger()


class Titles:
    """One per worker."""

    def __init__(
        self, threads: ThreadLog, hot: HotState, model: Model, *, default_model: str
    ) -> None:
        self._threads, self._hot = threads, hot
        self._model, self._default_model = model, default_model
        self._tasks = set[asyncio.Task[None]]()

    def suggest(self, agent: Agent, question: RunJob, answer: str) -> None:
        """Have the thread named after this turn, some time soon, if it needs a name."""
        if not agent.titles or not answer.strip() or len(self._tasks) >= TITLES_AT_ONCE_MAX:
            return
        task = asyncio.create_task(self._name(agent, question, answer), name="title")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Drop what is under way."""
        await end_tasks(self._tasks, seconds_max=STOP_SECONDS_MAX)

    async def _name(self, agent: Agent, question: RunJob, answer: str) -> None:
        try:
            async with asyncio.timeout(TITLE_SECONDS_MAX):
                thread = await self._hot.thread(question.thread_id)
                if thread is None or thread.title or thread.is_gone:
                    return
                if title := title_of(await self._ask(agent, question.content, answer)):
                    event = ThreadUpdated(thread_id=question.thread_id, at=utc_now(), title=title)
                    await self._threads.name_thread(thread.owner, event)
        except ModelError as error:
            log.warning("no title", code=error.code, detail=error.detail)
        except (HeadwaterError, ThreadNotLoaded, TimeoutError) as error:
            log.warning("no title", reason=type(error).__name__)

    async def _ask(self, agent: Agent, question: str, answer: str) -> str:
        turn = f"User: {question[:SHOWN_CHARS_MAX]}\n\nAssistant: {answer[:SHOWN_CHARS_MAX]}"
        request = ModelRequest(
            messages=[ChatMessage("system", PROMPT), ChatMessage("user", turn)],
            model=agent.model or self._default_model,
            temperature=0.0,
            max_tokens=ANSWER_TOKENS_MAX,
            parameters=agent.parameters,
        )
        text = ""
        async with self._model.stream(request) as stream:
            async for delta in stream:
                text += delta.content
                if len(text) > ANSWER_CHARS_MAX:
                    break
        return text


def title_of(text: str) -> str:
    """The first line that says something, without quotes and full stop; '' when there is none."""
    for line in text.splitlines():
        words = "".join(c if c.isprintable() else " " for c in line).split()
        title = " ".join(words).strip(" \"'“”„«»*#`").removeprefix("Title:").strip(" \"'“”.")
        if title:
            return title[:TITLE_CHARS_MAX].rstrip()
    return ""
