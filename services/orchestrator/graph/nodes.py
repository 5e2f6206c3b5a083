"""The nodes: pure but for the ports they are given. Tokens leave through a port, not the graph.

Streaming through the graph's own writer would cost twice as much per token and add nothing: the log
is the stream, and the state needs only how the answer ended.
"""

from __future__ import annotations

from langgraph.runtime import Runtime

from services.orchestrator.graph.context_window import fit
from services.orchestrator.graph.state import GraphState, Ports
from services.orchestrator.model import Completion, ModelInterrupted, ModelRequest

RESERVED_TOKENS_SHARE = 2  # at most half of the window is kept free for the answer


async def load_context(state: GraphState, runtime: Runtime[Ports]) -> GraphState:
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


async def generate(state: GraphState, runtime: Runtime[Ports]) -> GraphState:
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
    async with ports.model.stream(request) as stream:
        async for delta in stream:
            await ports.sink(delta)
        completion = stream.completion
    if completion is None:
        raise ModelInterrupted("no_final_chunk")
    return {"completion": completion}


async def finish(state: GraphState) -> GraphState:
    """Where an answer is looked at as a whole before the job ends."""
    completion = state["completion"]
    return {"completion": Completion(completion.finish_reason or "stop", completion.usage)}
