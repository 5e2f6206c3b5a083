"""``retrieve``: what the thread's files, and messages no longer shown, say on the question.

Looked for only where there can be something: nothing stands in front of a thread's first question,
and messages that are all shown need not be found.
"""

from __future__ import annotations

from typing import Final

from langgraph.runtime import Runtime  # pyright: ignore[reportMissingTypeStubs] -- it has none

from services.orchestrator.graph.prompt import fitting, messages_of
from services.orchestrator.graph.state import GraphState, Ports, Prompt
from shared.events import MetadataAdded

SECOND_POSITION: Final = 2  # of a thread's first event behind its creation


async def retrieve(state: GraphState, runtime: Runtime[Ports]) -> Prompt:
    """Find passages, tell the client of them, and put together what the model is to read."""
    ports, question = runtime.context, state["command"].content
    begins = state["shown"].begins
    sources = []
    if ports.agent.retrieval and state["position"] > SECOND_POSITION:
        found = await ports.finder.find(question, before=begins, hidden=state["hidden"])
        sources = fitting(found, state["room"])
    if sources:
        ports.say(MetadataAdded, metadata={"sources": [source.as_fact() for source in sources]})
    prompt, shown, room = ports.agent.system_prompt, state["shown"], state["room"]
    return {"messages": messages_of(prompt, shown, sources, question, room=room)}
