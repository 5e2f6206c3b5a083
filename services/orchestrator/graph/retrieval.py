"""``retrieve``: what the thread's files, and messages no longer shown, say on the question.

Looked for only where there can be something: nothing stands in front of a thread's first question,
and messages that are all shown need not be found.
"""

from __future__ import annotations

from typing import Final

from langgraph.runtime import Runtime  # pyright: ignore[reportMissingTypeStubs] -- it has none

from services.orchestrator.graph.prompt import Source, fitting, messages_of
from services.orchestrator.graph.state import GraphState, Ports, Prompt
from shared.events import MetadataAdded

SECOND_POSITION: Final = 2  # of a thread's first event behind its creation


async def retrieve(state: GraphState, runtime: Runtime[Ports]) -> Prompt:
    """Find passages, tell the client of them, and put together what the model is to read."""
    ports, shown, content = runtime.context, state["shown"], state["content"]
    sources: list[Source] = []
    if ports.agent.retrieval and state["position"] > SECOND_POSITION:
        asked, hidden = state["command"].content, state["hidden"]
        found = await ports.finder.find(asked, before=shown.begins, hidden=hidden)
        new = [source for source in found if source.passage not in content]
        sources = fitting(new, state["room"])
    if told := [*state["attached"], *sources]:
        ports.say(MetadataAdded, metadata={"sources": [source.as_fact() for source in told]})
    prompt, room = ports.agent.system_prompt, state["room"]
    return {"messages": messages_of(prompt, shown, sources, content, room=room)}
