"""What flows through the graph, and the ports its nodes are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from services.orchestrator.graph.context_window import Shown
from services.orchestrator.graph.prompt import Source
from services.orchestrator.graph.recollection import Hidden, History
from services.orchestrator.model import (
    ChatMessage,
    Completion,
    Delta,
    Model,
    ToolSpec,
    Usage,
)
from shared.agents import Agent
from shared.archive import Turn
from shared.commands import RunJob
from shared.events import JobEvent
from shared.summaries import Summary


class Question(TypedDict):
    """What the graph is given."""

    command: RunJob
    content: str  # the question as the model is to read it
    attached: Sequence[Source]  # what of it was not written by the user, but in files of theirs
    position: int  # of the question: what came before it is its context


class Context(TypedDict):
    """What ``load_context`` adds."""

    shown: Shown
    hidden: Hidden
    room: int  # tokens for all that is shown beside the question


class Prompt(TypedDict):
    """What ``retrieve`` adds; ``generate`` and ``use_tools`` add to it."""

    messages: list[ChatMessage]


class Answered(TypedDict):
    """What ``generate`` adds, and what the graph gives back: ``usage`` is of all rounds."""

    completion: Completion


class GraphState(Question, Context, Prompt, Answered):
    """Everything the nodes have added so far."""

    rounds: int  # of tools
    chars: int  # of the answer


@dataclass(frozen=True, slots=True)
class Made:
    """A summary that the model has made."""

    content: str
    usage: Usage | None


class Summaries(Protocol):
    """What stands for the beginning of a thread. Bounded in time; raises nothing of the model's."""

    async def standing(self, history: History, *, before: int) -> Summary | None:
        """The newest summary, if nothing of what it stands for has changed."""
        ...

    async def make(self, previous: str, turns: Sequence[Turn], *, tokens: int) -> Made | None:
        """What a summary and the turns behind it come to; None when the model cannot say."""
        ...


class Finder(Protocol):
    """Finds what was written on something. Bounded in time; finds nothing when it cannot look."""

    async def find(self, question: str, *, before: int | None, hidden: Hidden) -> list[Source]:
        """Passages of the thread's files, and of messages in front of a position, best first."""
        ...


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool says to the model."""

    content: str
    is_error: bool = False


class Tools(Protocol):
    """The tools of one attempt. Bounded in time; what goes wrong is said in the answer."""

    @property
    def specs(self) -> Sequence[ToolSpec]: ...

    async def use(
        self, name: str, arguments: Mapping[str, Any] | None, *, hidden: Hidden
    ) -> ToolAnswer:
        """Let a tool answer; ``arguments`` are None if what the model wrote is no JSON object."""
        ...


class Say(Protocol):
    """Appends an event of the job, behind everything that was said so far. Never waits."""

    def __call__(self, event_type: type[JobEvent], **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a node may touch beside the state."""

    agent: Agent
    model: Model
    default_model: str
    context_tokens: int
    history: Callable[[str, int], Awaitable[History]]
    summaries: Summaries
    finder: Finder
    tools: Tools
    sink: Callable[[Delta], Awaitable[None]]  # text on its way to the client; may hold back
    say: Say
