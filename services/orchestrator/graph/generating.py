"""``generate`` and ``use_tools``: the model is asked, and asked again with what its tools say.

    generate ──▶ does it ask for tools? ── no ──▶ end
        ▲                              yes
        └──────── use_tools ◀───────────┘   TOOL_ROUNDS_MAX times at most; then the model is told
                                            that it gets none, and what it says is the answer

Tokens leave through a port, not the graph. Streaming through the graph's own writer would cost
twice as much per token and add nothing: the log is the stream, and the state needs only how it
ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, cast

import orjson
from langgraph.runtime import Runtime  # pyright: ignore[reportMissingTypeStubs] -- it has none

from services.orchestrator.graph.context_window import clip, estimate_tokens
from services.orchestrator.graph.state import Answered, GraphState, Ports, ToolAnswer
from services.orchestrator.model import (
    ChatMessage,
    Completion,
    Delta,
    ModelInterrupted,
    ModelRequest,
    ToolUse,
    Usage,
)
from shared.events import ToolCall, ToolResult

ANSWER_CHARS_MAX: Final = 1 << 20  # a model that never stops: its answer ends here
TOOL_ROUNDS_MAX: Final = 5
USES_PER_ROUND_MAX: Final = 8  # those behind are refused
RESULT_TOKENS_MAX: Final = 1500
RESULT_TOKENS_MIN: Final = 50  # are given even where there is no room left
ID_CHARS_MAX: Final = 64
PARAGRAPH: Final = "\n\n"  # between what was said before a tool and what is said behind it
TOO_MANY: Final = ToolAnswer("too many tools were asked for at once: ask again for this one", True)


class Asked(Answered):
    """What ``generate`` adds. The completion's tool uses have ids of which each is another."""

    messages: list[ChatMessage]
    chars: int  # of the answer so far


class Used(TypedDict):
    """What ``use_tools`` adds."""

    messages: list[ChatMessage]
    rounds: int


async def generate(state: GraphState, runtime: Runtime[Ports]) -> Asked:
    """Ask the model and pass its text on as it comes."""
    ports, messages, chars = runtime.context, state["messages"], state.get("chars", 0)
    said: list[str] = []
    completion: Completion | None = None
    between = PARAGRAPH if chars else ""
    async with ports.model.stream(_request(state, ports)) as stream:
        async for delta in stream:
            if between:
                delta, between = Delta(between + delta.content, delta.deltas), ""
            await ports.sink(delta)
            said.append(delta.content)
            chars += len(delta.content)
            if chars > ANSWER_CHARS_MAX:
                completion = Completion("length", None)
                break
        completion = completion or stream.completion
    if completion is None:
        raise ModelInterrupted("no_final_chunk")
    completion = _in_all(state, ports, completion)
    if uses := completion.tool_uses:
        shown = [ToolUse(use.id, use.name, _written(arguments_of(use))) for use in uses]
        messages = [*messages, ChatMessage("assistant", "".join(said).strip(), tool_uses=shown)]
    return {"completion": completion, "messages": messages, "chars": chars}


async def next_node(state: GraphState) -> Literal["use_tools", "end"]:
    """A coroutine, for the graph calls others in a thread."""
    return "use_tools" if state["completion"].tool_uses else "end"


async def use_tools(state: GraphState, runtime: Runtime[Ports]) -> Used:
    """Let the tools answer, one by one, and tell the client of each call and result."""
    ports, messages = runtime.context, list(state["messages"])
    for number, use in enumerate(state["completion"].tool_uses):
        arguments = arguments_of(use)
        ports.say(ToolCall, tool_call_id=use.id, name=use.name, arguments=arguments or {})
        answer = TOO_MANY
        if number < USES_PER_ROUND_MAX:
            answer = await ports.tools.use(use.name, arguments, hidden=state["hidden"])
        left = _tokens_left(ports, messages)
        content = clip(answer.content, max(RESULT_TOKENS_MIN, min(left, RESULT_TOKENS_MAX)))
        facts = {"tool_call_id": use.id, "name": use.name}
        ports.say(ToolResult, content=content, is_error=answer.is_error, **facts)
        messages.append(ChatMessage("tool", content, tool_use_id=use.id))
    return {"messages": messages, "rounds": state.get("rounds", 0) + 1}


def arguments_of(use: ToolUse) -> dict[str, Any] | None:
    """What a tool is called with; None when the model wrote no JSON object."""
    if not use.arguments.strip():
        return {}
    try:
        arguments = orjson.loads(use.arguments)
    except orjson.JSONDecodeError:
        return None
    if arguments is None:
        return {}
    return cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else None


def _written(arguments: Mapping[str, Any] | None) -> str:
    """As the model is shown its own call again: many servers refuse what is no JSON."""
    return orjson.dumps(arguments or {}).decode()


def _request(state: GraphState, ports: Ports) -> ModelRequest:
    agent = ports.agent
    return ModelRequest(
        messages=state["messages"],
        model=agent.model or ports.default_model,
        temperature=agent.temperature,
        max_tokens=agent.max_tokens,
        parameters=agent.parameters,
        tools=ports.tools.specs,
        must_answer=state.get("rounds", 0) >= TOOL_ROUNDS_MAX,
    )


def _in_all(state: GraphState, ports: Ports, completion: Completion) -> Completion:
    """How the answer stands after this round, and which tools it goes on with."""
    before = state["completion"].usage if "completion" in state else None
    usage = _sum(before, completion.usage)
    if not completion.tool_uses or not ports.tools.specs:
        return Completion(completion.finish_reason, usage)
    if state.get("rounds", 0) >= TOOL_ROUNDS_MAX:
        return Completion("tool_rounds", usage)
    uses = _named(completion.tool_uses, state["messages"])
    return Completion(completion.finish_reason, usage, uses)


def _named(uses: Sequence[ToolUse], messages: Sequence[ChatMessage]) -> list[ToolUse]:
    """With an id each that no other call of the attempt has."""
    taken = {used.id for message in messages for used in message.tool_uses}
    named: list[ToolUse] = []
    for use in uses:
        is_good = 0 < len(use.id) <= ID_CHARS_MAX and use.id.isprintable()
        name = use.id if is_good else f"call_{len(taken) + 1}"
        while name in taken:
            name += "_"
        taken.add(name)
        named.append(ToolUse(name, use.name, use.arguments))
    return named


def _tokens_left(ports: Ports, messages: Sequence[ChatMessage]) -> int:
    agent, window = ports.agent, ports.context_tokens
    answer = min(agent.max_tokens or 0, window // 2)
    return window - answer - sum(estimate_tokens(message.content) for message in messages)


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.total_tokens + other.total_tokens,
    )
