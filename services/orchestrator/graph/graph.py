"""Nodes and edges, as data.

    load_context ──▶ generate ──▶ finish

`retrieve` belongs between the first two, `tools` beside `generate`. No checkpointer: the event log
is the source of truth (docs/decisions/0003-no-checkpointer.md).
"""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph

from services.orchestrator.graph.nodes import finish, generate, load_context
from services.orchestrator.graph.state import GraphState, Ports


def build_graph() -> Any:
    """The compiled graph: ``await graph.ainvoke(state, context=ports)``."""
    graph = StateGraph(GraphState, context_schema=Ports)
    graph.add_node("load_context", load_context)
    graph.add_node("generate", generate)
    graph.add_node("finish", finish)
    graph.add_edge(START, "load_context")
    graph.add_edge("load_context", "generate")
    graph.add_edge("generate", "finish")
    graph.add_edge("finish", END)
    return graph.compile()
