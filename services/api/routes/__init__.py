"""The HTTP surface: each handler decodes, calls one use case, and maps the outcome."""
