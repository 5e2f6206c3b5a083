"""The tools of one attempt: which the agent has, and what becomes of a call.

    call ─▶ had it been answered before? ── yes ─▶ the same answer
                 no
                 └▶ known tool? ─▶ arguments fit? ─▶ run, for as long as it may ─▶ answer

Failures
    No such tool, arguments that do not fit, too slow, a store away, a defect: the model is told, in
    words that hold nothing of the inside, and goes on. The job does not fail.
    A tool that blocks         is run off the event loop (``off_loop``).
    Former results not to be read   The job waits, as for its history: a tool is not run twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from services.orchestrator.finder import FindPassages
from services.orchestrator.former_results import Use, Uses
from services.orchestrator.graph.recollection import Hidden
from services.orchestrator.graph.state import ToolAnswer
from services.orchestrator.model import ToolSpec
from services.orchestrator.off_loop import OffLoop
from shared.archive import Archive
from shared.errors import ArchiveUnavailable, LogUnavailable
from shared.observability import get_logger

TOOL_SECONDS_MAX: Final = 10.0
RESULT_CHARS_MAX: Final = 16_000  # of what a tool says, before the window cuts it
RETRY_SECONDS: Final = 0.25

log = get_logger()


class Arguments(BaseModel):
    """What a tool is called with. Fields are described for the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolRefused(Exception):
    """A tool cannot do what it was asked; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a tool may look: in the thread of the question, and nowhere else."""

    archive: Archive
    find_passages: FindPassages
    thread_id: str
    question: int  # its position
    hidden: Hidden


Given = TypeVar("Given", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Tool(Generic[Given]):
    """``run`` may await; ``block`` may not, and is run off the event loop. A tool has one of them.

    Both may raise ToolRefused. What they raise else is a defect.
    """

    description: str
    arguments: type[Given]
    run: Callable[[Given, Scope], Awaitable[str]] | None = None
    block: Callable[[Given, Scope], str] | None = None
    seconds_max: float = TOOL_SECONDS_MAX

    def spec(self, name: str) -> ToolSpec:
        return ToolSpec(name, self.description, _schema(self.arguments))


class Toolbox:
    """The graph's ``Tools``, for one attempt."""

    def __init__(
        self,
        tools: Mapping[str, Tool[Any]],
        scope: Scope,
        *,
        off_loop: OffLoop,
        former: Callable[[], Awaitable[Mapping[Use, str]]],
    ) -> None:
        self.specs: Sequence[ToolSpec] = [tool.spec(name) for name, tool in tools.items()]
        self._tools, self._scope, self._off_loop = tools, scope, off_loop
        self._read_former, self._former = former, None
        self._uses = Uses()

    async def use(
        self, name: str, arguments: Mapping[str, Any] | None, *, hidden: Hidden
    ) -> ToolAnswer:
        """See ``Tools.use``."""
        use = self._uses.next(name, arguments or {})
        known = (await self._former_results()).get(use)
        if known is not None:
            log.info("tool result reused", tool=name)
            return ToolAnswer(known)
        tool = self._tools.get(name)
        if tool is None:
            return _refused(f"there is no such tool; there are: {', '.join(self._tools)}")
        if arguments is None:
            return _refused("the arguments are not a JSON object")
        try:
            given = tool.arguments.model_validate(arguments)
        except ValidationError as error:
            return _refused(_complaint(error))
        return await self._answer(name, tool, given, replace(self._scope, hidden=hidden))

    async def _answer(
        self, name: str, tool: Tool[Any], given: Arguments, scope: Scope
    ) -> ToolAnswer:
        try:
            async with asyncio.timeout(tool.seconds_max):
                content = await self._run(tool, given, scope)
        except ToolRefused as error:
            return _refused(str(error))
        except TimeoutError:
            log.warning("tool timed out", tool=name, seconds=tool.seconds_max)
            return _refused(f"the tool did not answer within {tool.seconds_max:g} s")
        except (ArchiveUnavailable, LogUnavailable) as error:
            log.warning("tool unavailable", tool=name, reason=str(error))
            return _refused("the tool is not available at the moment")
        except Exception:  # a defect of a tool is not the end of an answer
            log.exception("tool failed", tool=name)
            return _refused("the tool has failed")
        return ToolAnswer(content[:RESULT_CHARS_MAX])

    async def _run(self, tool: Tool[Any], given: Arguments, scope: Scope) -> str:
        if tool.run is not None:
            return await tool.run(given, scope)
        block = tool.block
        assert block is not None, "a tool has something to run"
        return await self._off_loop.run(lambda: block(given, scope))

    async def _former_results(self) -> Mapping[Use, str]:
        while self._former is None:
            try:
                self._former = await self._read_former()
            except (ArchiveUnavailable, LogUnavailable) as error:
                log.warning("former results cannot be read, will try again", reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)
        return self._former


def _refused(why: str) -> ToolAnswer:
    return ToolAnswer(f"error: {why}", is_error=True)


def _complaint(error: ValidationError) -> str:
    """The first one, without what was given."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "arguments"
    return f"{where}: {first['msg']}"


def _schema(arguments: type[Arguments]) -> dict[str, object]:
    """The JSON schema, without the titles that pydantic gives: they say nothing new."""
    schema: dict[str, Any] = arguments.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return schema
