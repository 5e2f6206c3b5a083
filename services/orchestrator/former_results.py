"""What tools have answered in former attempts of a job, so that they need not be asked again.

The model of a new attempt makes its calls anew, under new ids. A call is the same as a former one
if the tool is, and the arguments are, whatever their order, and as many like it went before in its
attempt: so two calls alike of one attempt get two results, and the next attempt gets them again.
An error is no result, and a call whose worker died before it was answered has none: both are made
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from services.orchestrator.job_records import records_of_job
from shared.codec import decode_event
from shared.event_log import Lease
from shared.events import ToolCall, ToolResult
from shared.thread_stream import ThreadStream


class Use(NamedTuple):
    """What tells one call of a tool from the others of its attempt."""

    name: str
    arguments: bytes  # keys in order
    number: int  # among those that are alike


class Uses:
    """Numbers the calls of one attempt."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, bytes]] = Counter()

    def next(self, name: str, arguments: Mapping[str, Any]) -> Use:
        alike = name, orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)
        self._seen[alike] += 1
        return Use(*alike, self._seen[alike])


async def former_results(stream: ThreadStream, lease: Lease) -> dict[Use, str]:
    """What was answered before the lease's attempt; of several answers, the newest.

    Raises LogUnavailable, ArchiveUnavailable.
    """
    results: dict[Use, str] = {}
    attempt, uses, open_uses = 0, Uses(), dict[str, Use]()
    async for record in records_of_job(stream, lease):
        if record.type not in ("tool_call", "tool_result"):
            continue
        event = decode_event(record.data)
        if not isinstance(event, ToolCall | ToolResult) or event.attempt >= lease.attempt:
            continue
        if event.attempt != attempt:
            attempt, uses, open_uses = event.attempt, Uses(), {}
        if isinstance(event, ToolCall):
            open_uses[event.tool_call_id] = uses.next(event.name, event.arguments)
        elif not event.is_error and event.tool_call_id in open_uses:
            results[open_uses[event.tool_call_id]] = event.content
    return results
