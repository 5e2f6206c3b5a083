"""One attempt's answer: the graph, with the ports it is given for this job, agent and lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.orchestrator.attachments import AttachedTexts
from services.orchestrator.finder import FindPassages, ThreadFinder
from services.orchestrator.former_results import Use, former_results
from services.orchestrator.graph.graph import Graph
from services.orchestrator.graph.recollection import Hidden
from services.orchestrator.graph.state import Ports, Question
from services.orchestrator.history import ThreadHistory
from services.orchestrator.job_writer import JobWriter
from services.orchestrator.model import Completion, Delta, Model
from services.orchestrator.off_loop import OffLoop
from services.orchestrator.summaries import ThreadSummaries
from services.orchestrator.toolbox import Scope, Toolbox
from services.orchestrator.tools import TOOLS
from shared.agents import Agent
from shared.archive import Archive
from shared.commands import RunJob
from shared.thread_stream import ThreadStream


@dataclass(frozen=True, slots=True)
class Answering:
    """All that the answers of a worker are made with."""

    graph: Graph
    model: Model
    default_model: str
    context_tokens: int
    history: ThreadHistory
    attachments: AttachedTexts
    stream: ThreadStream
    archive: Archive
    find_passages: FindPassages
    off_loop: OffLoop

    async def answer(self, agent: Agent, command: RunJob, writer: JobWriter) -> Completion:
        """Say it, and return how it ended. Raises ModelError, and what a port raises."""
        context_tokens = agent.context_tokens or self.context_tokens
        told = await self.attachments.tell(command, context_tokens=context_tokens)
        ports = self._ports(agent, command, writer)
        question: Question = {
            "command": command,
            "content": told.content,
            "attached": told.sources,
            "position": writer.lease.first,
        }
        answered = await self.graph.ainvoke(question, context=ports)
        return answered["completion"]

    def _ports(self, agent: Agent, command: RunJob, writer: JobWriter) -> Ports:
        async def sink(delta: Delta) -> None:
            writer.token(delta.content, delta.deltas)
            if writer.is_full:
                await writer.room()

        thread_id, question = command.thread_id, writer.lease.first
        context_tokens = agent.context_tokens or self.context_tokens
        return Ports(
            agent=agent,
            model=self.model,
            default_model=self.default_model,
            context_tokens=context_tokens,
            history=self.history.before,
            summaries=ThreadSummaries(
                archive=self.archive,
                model=self.model,
                model_name=agent.model or self.default_model,
                agent=agent,
                thread_id=thread_id,
                context_tokens=context_tokens,
            ),
            finder=ThreadFinder(self.archive, self.find_passages, thread_id, question),
            tools=self._toolbox(agent, command, writer),
            sink=sink,
            say=writer.add,
        )

    def _toolbox(self, agent: Agent, command: RunJob, writer: JobWriter) -> Toolbox:
        lease = writer.lease

        async def former() -> Mapping[Use, str]:
            return await former_results(self.stream, lease) if lease.attempt > 1 else {}

        scope = Scope(self.archive, self.find_passages, command.thread_id, lease.first, Hidden())
        tools = {name: TOOLS[name] for name in agent.tools}
        return Toolbox(tools, scope, off_loop=self.off_loop, former=former)
