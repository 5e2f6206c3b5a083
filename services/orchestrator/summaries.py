"""Summaries of the beginnings of threads: the one that stands, and the next one.

    newest summary ──▶ has a turn of it changed? ── no ──▶ it is shown, and gone on from
    Redis, or else       Redis and Postgres
    Postgres                   yes ──▶ void: what can be read is summed up anew when it must be

A summary is an event of the job that made it, so the job's next attempt finds it, too.

Failures
    The model is slow, or fails   There is none after SUMMARY_SECONDS_MAX; it is asked once.
    Postgres away                 The job waits, as it does for its history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.orchestrator.archived_summaries import is_void, newest_summary
from services.orchestrator.graph.context_window import clip, estimate_tokens
from services.orchestrator.graph.recollection import History
from services.orchestrator.graph.state import Made
from services.orchestrator.model import ChatMessage, Completion, Model, ModelError, ModelRequest
from shared.agents import Agent
from shared.archive import Archive, Turn
from shared.errors import ArchiveUnavailable
from shared.observability import get_logger
from shared.summaries import Summary

SUMMARY_SECONDS_MAX: Final = 20.0
RETRY_SECONDS: Final = 0.25
CHARS_PER_TOKEN_MAX: Final = 8  # a model that says more than it was allowed is cut off
TEXT_TOKENS_MIN: Final = 24  # of a question or an answer: rather than less, older ones are left out
PROMPT: Final = (
    "Sum up the conversation below for the assistant who goes on with it. Keep names, numbers,"
    " decisions, what the user wants and what is still open. Write in the language of the"
    " conversation, {words} words at most. Answer with the summary alone."
)
WORDS_PER_TOKEN: Final = 0.6

log = get_logger()


@dataclass(frozen=True, slots=True)
class ThreadSummaries:
    """The graph's ``Summaries``, for one thread and one agent."""

    archive: Archive
    model: Model
    model_name: str
    agent: Agent
    thread_id: str
    context_tokens: int

    async def standing(self, history: History, *, before: int) -> Summary | None:
        """See ``Summaries.standing``."""
        while True:
            try:
                return await self._standing(history, before)
            except ArchiveUnavailable as error:
                log.warning("summary cannot be read, will try again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _standing(self, history: History, before: int) -> Summary | None:
        summary = history.summary
        if summary is None and history.archived:
            summary = await newest_summary(self.archive, self.thread_id)
        if summary is None or summary.upto >= before or history.voids(summary):
            return None
        if history.archived > summary.as_of:
            void = await is_void(self.archive, self.thread_id, summary, before=before)
            return None if void else summary
        return summary

    async def make(self, previous: str, turns: Sequence[Turn], *, tokens: int) -> Made | None:
        """See ``Summaries.make``."""
        try:
            async with asyncio.timeout(SUMMARY_SECONDS_MAX):
                made = await self._ask(previous, turns, tokens)
        except ModelError as error:
            log.warning("no summary", code=error.code, detail=error.detail)
            return None
        except TimeoutError:
            log.warning("no summary", seconds=SUMMARY_SECONDS_MAX)
            return None
        log.info("summed up", turns=len(turns), chars=len(made.content))
        return made

    async def _ask(self, previous: str, turns: Sequence[Turn], tokens: int) -> Made:
        prompt = PROMPT.format(words=int(tokens * WORDS_PER_TOKEN))
        room = self.context_tokens - tokens - estimate_tokens(prompt)
        request = ModelRequest(
            messages=[
                ChatMessage("system", prompt),
                ChatMessage("user", transcript(previous, turns, room)),
            ],
            model=self.model_name,
            temperature=0.0,
            max_tokens=tokens,
            parameters=self.agent.parameters,
        )
        text, completion = "", Completion("length", None)
        async with self.model.stream(request) as stream:
            async for delta in stream:
                text += delta.content
                if len(text) > tokens * CHARS_PER_TOKEN_MAX:
                    break
            completion = stream.completion or completion
        return Made(text.strip(), completion.usage)


def transcript(previous: str, turns: Sequence[Turn], room: int) -> str:
    """What is to be summed up, in at most so many tokens.

    Long texts give way first, all down to the same length; then the oldest turns.
    """
    texts = [f"Summary so far: {previous}"] if previous else []
    said = [
        text
        for turn in turns[-(max(0, room - estimate_tokens(previous)) // (2 * TEXT_TOKENS_MIN)) :]
        for text in (f"User: {turn.question}", f"Assistant: {turn.answer or ''}")
    ]
    texts += said
    cap = level([estimate_tokens(text) for text in texts], room)
    return "\n\n".join(clip(text, cap) for text in texts)


def level(sizes: Sequence[int], room: int) -> int:
    """The greatest size to which the greater ones must be cut for all to have room together."""
    left = room
    for number, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - number)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)
