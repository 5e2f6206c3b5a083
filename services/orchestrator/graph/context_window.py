"""Cuts a thread's history to what the model can hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.orchestrator.model import ChatMessage
from shared.archive import Turn

BYTES_PER_TOKEN: Final = 3  # of UTF-8; English has about 4, Korean about 3: rather too short
TOKENS_PER_MESSAGE: Final = 8  # role and separators of common chat templates


def estimate_tokens(text: str) -> int:
    """An estimate that needs no tokenizer and rather says too many."""
    return len(text.encode()) // BYTES_PER_TOKEN + TOKENS_PER_MESSAGE


def fit(
    system_prompt: str, turns: Sequence[Turn], question: str, *, budget_tokens: int
) -> list[ChatMessage]:
    """The system prompt, as many of the newest answered turns as fit, and the question.

    Turns are kept whole and without a hole between them. The question always goes in.
    """
    head = [ChatMessage("system", system_prompt)] if system_prompt else []
    left = budget_tokens - estimate_tokens(question) - sum(estimate_tokens(m.content) for m in head)
    kept: list[ChatMessage] = []
    for turn in reversed(turns):
        if turn.answer is None:
            continue
        left -= estimate_tokens(turn.question) + estimate_tokens(turn.answer)
        if left < 0:
            break
        kept += [ChatMessage("assistant", turn.answer), ChatMessage("user", turn.question)]
    return [*head, *reversed(kept), ChatMessage("user", question)]
