"""The tools that an agent may be given, by the names in the agents file.

Each looks into the thread of the question and nowhere else: what it says stands in the thread's
stream, which all its participants read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from pydantic import Field

from services.orchestrator.found_messages import Place, find_messages
from services.orchestrator.toolbox import Arguments, Scope, Tool, ToolRefused
from shared.agents import ToolName

FOUND_MAX: Final = 6
QUERY_CHARS_MAX: Final = 500
PASSAGE_CHARS_MAX: Final = 1_200
NOTHING_FOUND: Final = "nothing was found"


class Query(Arguments):
    query: str = Field(
        min_length=1,
        max_length=QUERY_CHARS_MAX,
        description="Words to look for: any of them",
    )


class Moment(Arguments):
    timezone: str = Field(
        "UTC", max_length=64, description="IANA name of a time zone, such as Asia/Seoul"
    )


async def search_messages(given: Query, scope: Scope) -> str:
    place = Place(scope.thread_id, scope.question, scope.question, scope.hidden)
    found = await find_messages(scope.archive, place, given.query, limit=FOUND_MAX)
    return _listed([{"role": one.role, "text": one.excerpt} for one in found])


async def search_files(given: Query, scope: Scope) -> str:
    found = await scope.find_passages(scope.archive, scope.thread_id, given.query, limit=FOUND_MAX)
    return _listed([{"file": one.name, "text": one.text[:PASSAGE_CHARS_MAX]} for one in found])


def now(given: Moment, scope: Scope) -> str:
    """Blocks: a time zone is read from a file."""
    if given.timezone == "UTC":
        zone = UTC
    else:
        try:
            zone = ZoneInfo(given.timezone)
        except (KeyError, ValueError, OSError):  # not found; no name; a folder
            raise ToolRefused("there is no time zone of that name") from None
    moment = datetime.now(zone)
    return f"{moment.isoformat(timespec='seconds')} {moment:%A}"


def _listed(found: Sequence[Mapping[str, str]]) -> str:
    return orjson.dumps(found).decode() if found else NOTHING_FOUND


TOOLS: Final[Mapping[ToolName, Tool[Any]]] = {
    "search_messages": Tool(
        "Search what was said earlier in this conversation.", Query, run=search_messages
    ),
    "search_files": Tool("Search the files of this conversation.", Query, run=search_files),
    "now": Tool("The date, the time and the weekday.", Moment, block=now),
}
