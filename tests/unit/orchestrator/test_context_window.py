"""How many tokens a text may have, and which turns have room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.graph.context_window import clip, cost, estimate_tokens, newest
from shared.archive import Turn

texts = st.text(max_size=40)
turns = st.lists(
    st.builds(Turn, position=st.just(0), job_id=st.just("job"), question=texts, answer=texts),
    max_size=12,
)


@given(history=turns, room=st.integers(0, 400))
def test_the_newest_turns_that_have_room_are_kept_whole(history: list[Turn], room: int) -> None:
    kept = newest(history, room)
    assert kept == history[len(history) - len(kept) :]
    assert cost(kept) <= room
    if len(kept) < len(history):
        assert cost(history[len(history) - len(kept) - 1 :]) > room


@given(text=st.text(max_size=200), tokens=st.integers(0, 100))
def test_what_is_clipped_has_room_and_is_the_texts_beginning(text: str, tokens: int) -> None:
    cut = clip(text, tokens)
    assert not cut or estimate_tokens(cut) <= tokens
    assert text.startswith(cut.removesuffix(" …"))
    if estimate_tokens(text) <= tokens:
        assert cut == text


def test_an_estimate_says_rather_too_many() -> None:
    """Counted by the bundled model's tokenizer."""
    for text, tokens in (
        ("The river rose slowly through the night, and by morning the fields were wet.", 16),
        ("대한민국의 수도는 서울입니다.", 36),
        ("今天天气很好,我们一起去公园散步吧。", 35),
        ('{"id":"job_00001","ok":true,"n":1},{"id":"job_00002","ok":true,"n":2}', 38),
        ("def f(x: int) -> int:\n    return x + 1\n", 17),
        ("7919, 15838, 23757, 31676, 39595, ", 34),
    ):
        assert tokens <= estimate_tokens(text) <= 3 * tokens, text
    assert estimate_tokens("") > 0
