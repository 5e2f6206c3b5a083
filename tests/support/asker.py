"""Asks a model by name and keeps what came, for tests of the model client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.orchestrator.model import ChatMessage, Completion, Delta, Model, ModelRequest
from services.orchestrator.model_limits import ModelLimits

API_KEY = "sk-must-never-be-shown"
PROMPT = "the-words-of-a-user must stay between them and the model"
ONE_TRY = ModelLimits(tries_max=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    deltas: list[Delta]
    completion: Completion

    @property
    def text(self) -> str:
        return "".join(delta.content for delta in self.deltas)


class Asker:
    """Call it with the name of a model. ``deltas`` are those of the last question, even failed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.deltas: list[Delta] = []

    async def __call__(self, name: str, *, prompt: str = PROMPT) -> Answer:
        self.deltas = deltas = list[Delta]()
        request = ModelRequest([ChatMessage("user", prompt)], name)
        async with self.model.stream(request) as stream:
            async for delta in stream:
                deltas.append(delta)
        assert stream.completion is not None
        return Answer(deltas, stream.completion)

    @staticmethod
    def request(name: str) -> ModelRequest:
        return ModelRequest([ChatMessage("user", PROMPT)], name)


class MakeAsker(Protocol):
    """What the fixture ``make_asker`` does; without ``base_url`` it asks the scripted server."""

    def __call__(self, limits: ModelLimits = ONE_TRY, *, base_url: str | None = None) -> Asker: ...
