"""What of a thread's history the model gets to read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.graph.context_window import estimate_tokens, fit
from services.orchestrator.model import ChatMessage
from shared.archive import Turn

texts = st.text(max_size=40)
turns = st.lists(
    st.builds(
        Turn,
        position=st.just(0),
        job_id=st.just("job"),
        question=texts,
        answer=st.one_of(st.none(), texts.filter(bool)),
    ),
    max_size=12,
)


def said(kept: list[Turn]) -> list[ChatMessage]:
    return [
        message
        for turn in kept
        for message in (
            ChatMessage("user", turn.question),
            ChatMessage("assistant", turn.answer or ""),
        )
    ]


@given(history=turns, prompt=texts, question=texts, budget=st.integers(0, 400))
def test_the_newest_turns_that_fit_are_kept_whole(
    history: list[Turn], prompt: str, question: str, budget: int
) -> None:
    head = [ChatMessage("system", prompt)] if prompt else []
    tail = [ChatMessage("user", question)]
    messages = fit(prompt, history, question, budget_tokens=budget)
    answered = [turn for turn in history if turn.answer]
    kept = (len(messages) - len(head) - 1) // 2
    assert messages == [*head, *said(answered[len(answered) - kept :]), *tail]

    def cost(turns_kept: int) -> int:
        newest = said(answered[len(answered) - turns_kept :])
        return sum(estimate_tokens(message.content) for message in [*head, *newest, *tail])

    assert kept == 0 or cost(kept) <= budget
    assert kept == len(answered) or cost(kept + 1) > budget


def test_an_estimate_says_rather_too_many() -> None:
    assert estimate_tokens("four words in English") >= 4
    assert estimate_tokens("대한민국의 수도는 서울입니다") >= 8
    assert estimate_tokens("") > 0
