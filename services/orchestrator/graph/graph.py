"""Nodes and edges, as data.

    load_context ──▶ generate

`retrieve` belongs between the two, `tools` beside `generate`. No checkpointer: the event log is the
source of truth (docs/decisions/0003-no-checkpointer.md).
"""

from __future__ import annotations

from typing import Any, Protocol

from langgraph.graph import (  # pyright: ignore[reportMissingTypeStubs] -- it has none
    END,
    START,
    StateGraph,
)

from services.orchestrator.graph.nodes import generate, load_context
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
    graph.add_node("generate", generate)
    graph.add_edge(START, "load_context")
    graph.add_edge("load_context", "generate")
    graph.add_edge("generate", END)
    return graph.compile()
