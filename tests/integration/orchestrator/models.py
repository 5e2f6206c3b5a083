"""Model ports around the real one: they see what is asked, or get in the way of it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from services.orchestrator.model import (
    Completion,
    Delta,
    Model,
    ModelInterrupted,
    ModelRefused,
    ModelRequest,
    ModelStream,
)
from services.orchestrator.summaries import PROMPT


class Listening:
    """Remembers every request."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.requests: list[ModelRequest] = []

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        self.requests.append(request)
        async with self._model.stream(request) as stream:
            yield stream


class BreaksOff:
    """Breaks off what it is asked first, behind its first word; summaries apart."""

    def __init__(self, model: Model) -> None:
        self._model, self._has_broken = model, False

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        if self._has_broken or is_for_summary(request):
            async with self._model.stream(request) as stream:
                yield stream
            return
        self._has_broken = True
        yield _Answer(["half"], block_seconds=0, defect=ModelInterrupted("closed"))


class RefusesSummaries:
    """Answers, but sums nothing up."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        if is_for_summary(request):
            raise ModelRefused(400)
        async with self._model.stream(request) as stream:
            yield stream


def is_for_summary(request: ModelRequest) -> bool:
    return request.messages[0].content.startswith(PROMPT.partition("{")[0])


class _Answer:
    """Yields what it is given, however long that keeps everybody else from running."""

    def __init__(self, texts: list[str], *, block_seconds: float, defect: Exception | None) -> None:
        self._texts = iter(texts)
        self._block_seconds, self._defect = block_seconds, defect
        self.completion: Completion | None = None

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        time.sleep(self._block_seconds)  # noqa: ASYNC251 -- what a synchronous tool does
        text = next(self._texts, None)
        if text is not None:
            return Delta(text, 1)
        if self._defect is not None:
            raise self._defect
        self.completion = Completion("stop", None)
        raise StopAsyncIteration


class Scripted:
    """Says the same words to everybody; may block the event loop before each, or break."""

    def __init__(
        self, texts: list[str], *, block_seconds: float = 0.0, defect: Exception | None = None
    ) -> None:
        self._texts, self._block_seconds, self._defect = texts, block_seconds, defect

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelStream]:
        yield _Answer(self._texts, block_seconds=self._block_seconds, defect=self._defect)
