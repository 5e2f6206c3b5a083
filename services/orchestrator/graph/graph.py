"""Nodes and edges, as data.

    load_context ──▶ retrieve ──▶ generate ──▶ end
                                   ▲    │
                                   └── use_tools

No checkpointer: the event log is the source of truth (docs/decisions/0003-no-checkpointer.md).
"""

from __future__ import annotations

from typing import Any, Protocol

from langgraph.graph import (  # pyright: ignore[reportMissingTypeStubs] -- it has none
    END,
    START,
    StateGraph,
)

from services.orchestrator.graph.context import load_context
from services.orchestrator.graph.generating import generate, next_node, use_tools
from services.orchestrator.graph.retrieval import retrieve
from services.orchestrator.graph.state import Answered, GraphState, Ports, Question


class Graph(Protocol):
    """The compiled graph. May run for any number of jobs at once."""

    async def ainvoke(self, input: Question, *, context: Ports) -> Answered:
        """Answer a question. Raises what a port raises; a cancellation aborts the model."""
        ...


def build_graph() -> Graph:
    graph: Any = StateGraph(
        GraphState, context_schema=Ports, input_schema=Question, output_schema=Answered
    )
    graph.add_node("load_context", load_context)
    graph.add_node("retrieve", retrieve)
    graph.add_node("generate", generate)
    graph.add_node("use_tools", use_tools)
    graph.add_edge(START, "load_context")
    graph.add_edge("load_context", "retrieve")
    graph.add_edge("retrieve", "generate")
    graph.add_conditional_edges("generate", next_node, {"use_tools": "use_tools", "end": END})
    graph.add_edge("use_tools", "generate")
    return graph.compile()
