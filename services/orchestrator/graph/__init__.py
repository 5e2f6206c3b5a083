"""The graph that answers one question."""
