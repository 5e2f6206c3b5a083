"""/v1/agents"""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from services.api.routes.documented import refusals
from services.api.schemas import AgentPage, AgentView
from shared.agents import Agent


@get(
    "/v1/agents",
    summary="List the configured agents; the first one is the default",
    responses=refusals(),
)
async def list_agents(
    agents: NamedDependency[SkipValidation[dict[str, Agent]]],
    default_model: NamedDependency[SkipValidation[str]],
) -> AgentPage:
    return AgentPage(
        items=[
            AgentView(
                name=agent.name,
                description=agent.description,
                model=agent.model or default_model,
            )
            for agent in agents.values()
        ]
    )


HANDLERS = [list_agents]
