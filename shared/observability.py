"""Structured logs: one JSON object a line on standard error, with the ids bound to the context.

`bound(trace_id=…, job_id=…, thread_id=…)` puts ids on every line logged inside it, across awaits.
Prompt text, answers and tokens of callers are never logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.settings import Settings

# They log each call, or what it carried: the driver of Redis every event that is published.
_CHATTY: Final = (
    "httpx",
    "aiohttp.access",
    "faststream",
    "redis",
    "push_response",
    "uvicorn.websocket",
)


def _flatten_extra(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Libraries hand over ``extra={…}``: its fields belong beside the others."""
    extra = event.pop("extra", None)
    return {**extra, **event} if isinstance(extra, dict) else event


def configure_logging(settings: Settings, *, service: str) -> None:
    """Set up structlog and the standard library's root logger. Called once, by ``__main__``."""
    level = logging.getLevelNamesMapping().get(settings.log_level.upper(), logging.INFO)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _flatten_extra,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer()
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    # A connection that died under a statement: whoever sent it is told, and tells.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(service=service)


def get_logger() -> Any:
    return structlog.get_logger()


@contextmanager
def bound(**ids: Any) -> Generator[None]:
    """Bind ids to every line logged inside."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
