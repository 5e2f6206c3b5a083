"""What flows through the graph, and the ports its nodes are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypedDict

from services.orchestrator.model import ChatMessage, Completion, Delta, Model
from shared.agents import Agent
from shared.archive import Turn
from shared.commands import RunJob


class Question(TypedDict):
    """What the graph is given."""

    command: RunJob
    position: int  # of the question: what came before it is its context


class Context(TypedDict):
    """What ``load_context`` adds."""

    messages: list[ChatMessage]


class Answered(TypedDict):
    """What ``generate`` adds, and what the graph gives back."""

    completion: Completion


class GraphState(Question, Context, Answered):
    """Everything the nodes have added so far."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a node may touch beside the state."""

    agent: Agent
    model: Model
    default_model: str
    context_tokens: int
    history: Callable[[str, int], Awaitable[list[Turn]]]
    sink: Callable[[Delta], Awaitable[None]]  # text on its way to the client; may hold back
