"""Agents: named personas, read from a JSON file by the gateway (to list) and the worker (to run).

    {"agents": [{"name": "default", "description": "…", "system_prompt": "…", "model": "gpt-4o",
                 "temperature": 0.7, "max_tokens": 512, "parameters": {"top_p": 0.9},
                 "titles": true, "tools": ["search_messages", "now"],
                 "retrieval": true, "context_tokens": 8192}]}

The first agent answers when a request names none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from shared.errors import SettingsError

ToolName = Literal["search_messages", "search_files", "now"]

DEFAULT_PROMPT: Final = "You are a helpful assistant. Answer briefly and clearly."


class Agent(BaseModel):
    """``model`` None means HEADWATER_LLM_MODEL. ``parameters`` go to the provider unchanged.

    ``titles``: threads without a title get one from the model, after an answer of this agent.
    ``tools``: what the model may call. ``retrieval``: whether it is shown what the thread's files,
    and messages that it is no longer shown, say on the question. ``context_tokens``: how much its
    model can hold; None means HEADWATER_LLM_CONTEXT_TOKENS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    description: str = ""
    system_prompt: str = DEFAULT_PROMPT
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=512, ge=1)
    parameters: dict[str, Any] = Field(default_factory=dict)
    titles: bool = False
    tools: tuple[ToolName, ...] = ()
    retrieval: bool = True
    context_tokens: int | None = Field(default=None, ge=64)

    @field_validator("tools")
    @classmethod
    def _each_once(cls, tools: tuple[ToolName, ...]) -> tuple[ToolName, ...]:
        return tuple(dict.fromkeys(tools))


class _AgentsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    agents: list[Agent] = Field(min_length=1)


def load_agents(path: Path | None) -> Mapping[str, Agent]:
    """Agents by name, the first one being the default. Raises SettingsError, naming the field."""
    if path is None:
        return {"default": Agent(name="default", description="Answers anything, briefly.")}
    try:
        agents = _AgentsFile.model_validate_json(path.read_bytes()).agents
    except OSError as error:
        raise SettingsError(f"HEADWATER_AGENTS_FILE: {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"HEADWATER_AGENTS_FILE: {where}: {first['msg']}") from None
    by_name = {agent.name: agent for agent in agents}
    if len(by_name) != len(agents):
        raise SettingsError("HEADWATER_AGENTS_FILE: two agents have the same name")
    return by_name


def default_agent(agents: Mapping[str, Agent]) -> str:
    return next(iter(agents))
