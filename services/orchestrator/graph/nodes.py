"""The nodes: pure but for the ports they are given. Tokens leave through a port, not the graph.

Streaming through the graph's own writer would cost twice as much per token and add nothing: the log
is the stream, and the state needs only how the answer ended.
"""

from __future__ import annotations

from typing import Final

from langgraph.runtime import Runtime  # pyright: ignore[reportMissingTypeStubs] -- it has none

from services.orchestrator.graph.context_window import fit
from services.orchestrator.graph.state import Answered, Context, GraphState, Ports, Question
from services.orchestrator.model import Completion, ModelInterrupted, ModelRequest

RESERVED_TOKENS_SHARE: Final = 2  # at most half of the window is kept free for the answer
ANSWER_CHARS_MAX: Final = 1 << 20  # a model that never stops: its answer ends here


async def load_context(state: Question, runtime: Runtime[Ports]) -> Context:
    """Gather what was said before, cut to the model's window."""
    ports, command = runtime.context, state["command"]
    turns = await ports.history(command.thread_id, state["position"])
    answer = min(ports.agent.max_tokens or 0, ports.context_tokens // RESERVED_TOKENS_SHARE)
    messages = fit(
        ports.agent.system_prompt,
        turns,
        command.content,
        budget_tokens=ports.context_tokens - answer,
    )
    return {"messages": messages}


async def generate(state: GraphState, runtime: Runtime[Ports]) -> Answered:
    """Ask the model and pass its text on as it comes."""
    ports = runtime.context
    agent = ports.agent
    request = ModelRequest(
        messages=state["messages"],
        model=agent.model or ports.default_model,
        temperature=agent.temperature,
        max_tokens=agent.max_tokens,
        parameters=agent.parameters,
    )
    chars = 0
    async with ports.model.stream(request) as stream:
        async for delta in stream:
            await ports.sink(delta)
            chars += len(delta.content)
            if chars > ANSWER_CHARS_MAX:
                return {"completion": Completion("length", None)}
        completion = stream.completion
    if completion is None:
        raise ModelInterrupted("no_final_chunk")
    return {"completion": completion}
