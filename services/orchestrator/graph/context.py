"""``load_context``: what was said before, as much of it as the model can hold.

    │ summary │ folded next │   kept whole   │ room for more turns │ question │ answer │
    └──────────────────────── room ────────────────────────────────┘

While everything fits, nothing is summed up, and nobody is asked for a summary. When it does not,
the newest turns, up to half of the room, are kept, and those in front of them go into the summary,
with what it says already. So there is room again for a number of turns, and the summary, which is
an event of the job, is used by the jobs after it.

Failures
    The model makes none   What was to go into it is left out, and nothing is appended: the next job
                           tries again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from langgraph.runtime import Runtime  # pyright: ignore[reportMissingTypeStubs] -- it has none

from services.orchestrator.graph.context_window import Shown, clip, cost, estimate_tokens, newest
from services.orchestrator.graph.recollection import History
from services.orchestrator.graph.state import Context, Ports, Question
from services.orchestrator.model import ToolSpec
from shared.archive import TURNS_MAX, Turn
from shared.events import Summarized, Usage

ANSWER_SHARE: Final = 2  # at most half of the window is kept free for the answer
TOOLS_SHARE: Final = 4  # a quarter of the rest for what tools say, if there are any
KEPT_SHARE: Final = 2  # of the room: the newest turns, when others are summed up
SUMMARY_SHARE: Final = 4
SUMMARY_TOKENS_MIN: Final = 40  # a window with less room than that has no use for one
SUMMARY_TOKENS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the thread the question stands, and how many tokens are free in front of it."""

    position: int
    room: int


async def load_context(state: Question, runtime: Runtime[Ports]) -> Context:
    """Gather what was said before, cut to the model's window."""
    ports, command = runtime.context, state["command"]
    history = await ports.history(command.thread_id, state["position"])
    place = _Place(state["position"], room_of(ports, state["content"]))
    turns = [turn for turn in history.turns if turn.answer]
    if _fits(turns, place.room):
        shown = Shown("", turns)
    else:
        shown = await _cut(ports, history, turns, place)
    return {"shown": shown, "hidden": history.hidden, "room": place.room}


def room_of(ports: Ports, question: str) -> int:
    """Tokens that are left for what was said and found."""
    window, agent = ports.context_tokens, ports.agent
    left = window - min(agent.max_tokens or 0, window // ANSWER_SHARE)
    left -= estimate_tokens(question)
    left -= estimate_tokens(agent.system_prompt) if agent.system_prompt else 0
    if specs := ports.tools.specs:
        left -= sum(map(_tokens_of, specs)) + left // TOOLS_SHARE
    return max(0, left)


def _tokens_of(spec: ToolSpec) -> int:
    return estimate_tokens(spec.name + spec.description + orjson.dumps(spec.parameters).decode())


def _fits(turns: Sequence[Turn], room: int) -> bool:
    """Whether all can be shown; where as many as can be read were read, there may be more."""
    return len(turns) < TURNS_MAX and cost(turns) <= room


async def _cut(ports: Ports, history: History, turns: Sequence[Turn], place: _Place) -> Shown:
    summary = await ports.summaries.standing(history, before=place.position)
    said = summary.content if summary else ""
    if summary is not None:
        turns = [turn for turn in turns if turn.position > summary.upto]
    left = place.room - (estimate_tokens(said) if said else 0)
    if _fits(turns, left):
        return _shown(said, turns, place)
    kept = newest(turns[-TURNS_MAX // KEPT_SHARE :], place.room // KEPT_SHARE)
    folded = turns[: len(turns) - len(kept)]
    tokens = min(place.room // SUMMARY_SHARE, SUMMARY_TOKENS_MAX)
    if tokens >= SUMMARY_TOKENS_MIN:
        made = await ports.summaries.make(said, folded, tokens=tokens)
        content = clip(made.content, tokens) if made else ""
        if made and content:
            counted = made.usage and Usage.model_validate(made.usage, from_attributes=True)
            place_of = {"upto": folded[-1].position, "as_of": history.as_of}
            ports.say(Summarized, content=content, usage=counted, **place_of)
            return _shown(content, kept, place)
    return _shown(said, newest(turns, left), place)


def _shown(summary: str, turns: Sequence[Turn], place: _Place) -> Shown:
    return Shown(summary, turns, turns[0].position if turns else place.position)
