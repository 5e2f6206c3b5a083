"""What the model reads, and what it is given to sum up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.found_messages import EXCERPT_CHARS_MAX, excerpt, telling_terms
from services.orchestrator.graph.context_window import Shown, cost, estimate_tokens
from services.orchestrator.graph.prompt import (
    SOURCES_HEAD,
    SUMMARY_HEAD,
    Source,
    fitting,
    messages_of,
)
from services.orchestrator.model import ChatMessage
from services.orchestrator.summaries import TEXT_TOKENS_MIN, level, transcript
from shared.archive import Turn

texts = st.text(min_size=1, max_size=200)
turns = st.lists(
    st.builds(Turn, position=st.just(0), job_id=st.just("job"), question=texts, answer=texts),
    max_size=8,
)
sources = st.lists(st.builds(Source, passage=texts, message_id=st.just("m")), max_size=6)
TURN = Turn(2, "job", "how", "so")
LONG_TURN = Turn(1, "job", "word " * 200, "yes")


def test_all_that_is_said_has_its_place() -> None:
    source = Source("the Han flows west", file_id="f", name="rivers.pdf")
    messages = messages_of("be kind", Shown("they met", [TURN]), [source], "why", room=1000)
    assert messages == [
        ChatMessage("system", f"be kind\n\n{SUMMARY_HEAD}\nthey met"),
        ChatMessage("user", "how"),
        ChatMessage("assistant", "so"),
        ChatMessage("user", f"{SOURCES_HEAD}\n\n[rivers.pdf] the Han flows west\n\n---\n\nwhy"),
    ]


def test_what_there_is_nothing_of_leaves_no_trace() -> None:
    assert messages_of("", Shown("", []), [], "why", room=0) == [ChatMessage("user", "why")]
    [system, _] = messages_of("", Shown("they met", []), [], "why", room=100)
    assert system == ChatMessage("system", f"{SUMMARY_HEAD}\nthey met")


def test_the_oldest_turns_give_way_to_sources() -> None:
    shown, source = Shown("", [LONG_TURN, TURN]), Source("word " * 40, message_id="m")
    room = cost(shown.turns) + 20
    assert len(messages_of("", shown, [], "why", room=room)) == 5
    with_source = messages_of("", shown, fitting([source], room), "why", room=room)
    assert [m.content for m in with_source[:2]] == ["how", "so"]


@given(found=sources, room=st.integers(0, 2000))
def test_sources_take_about_a_quarter(found: list[Source], room: int) -> None:
    kept = fitting(found, room)
    assert [s.message_id for s in kept] == [s.message_id for s in found[: len(kept)]]
    spent = sum(estimate_tokens(source.passage) for source in kept)
    assert spent <= room // 4
    if sum(estimate_tokens(s.as_quotation()) for s in found) * 5 + 500 < room:
        assert kept == found


def test_sources_are_told_as_what_they_are() -> None:
    of_file = Source("p", file_id="f", name="n").as_fact()
    assert of_file == {"file_id": "f", "name": "n", "passage": "p"}
    assert Source("p", message_id="m").as_fact() == {"message_id": "m", "passage": "p"}


@given(previous=st.text(max_size=100), said=turns, room=st.integers(0, 1500))
def test_what_is_summed_up_has_room(previous: str, said: list[Turn], room: int) -> None:
    text = transcript(previous, said, room)
    labels = 12 * (2 * len(said) + 1)  # of what each text begins with
    assert estimate_tokens(text) <= max(room, 0) + labels + 8
    if room > cost(said) + estimate_tokens(previous) + labels + 100 and room > 50 * TEXT_TOKENS_MIN:
        assert all(turn.question in text and str(turn.answer) in text for turn in said)


@given(sizes=st.lists(st.integers(0, 100), min_size=1, max_size=10), room=st.integers(0, 600))
def test_the_greatest_give_way_to_one_level(sizes: list[int], room: int) -> None:
    cap = level(sizes, room)
    assert sum(min(size, cap) for size in sizes) <= room or sum(sizes) <= room
    if sum(sizes) <= room:
        assert cap == max(sizes)
    else:
        assert sum(min(size, cap + 1) for size in sizes) > room


def test_an_excerpt_stands_around_what_was_found() -> None:
    said = "nothing " * 500 + "the boat is blue" + " nothing" * 500
    piece = excerpt(said, telling_terms("BOAT"))
    assert "the boat is blue" in piece
    assert len(piece) <= EXCERPT_CHARS_MAX + 4
    assert (piece[0], piece[-1]) == ("…", "…")
    assert excerpt("short", ["short"]) == "short"


def test_the_terms_of_a_question_are_looked_for_once() -> None:
    assert telling_terms("Boat, boat! a 5?") == ["boat", "a", "5"]
    assert telling_terms("고양이") == ["고양", "양이"]
    assert telling_terms("?!") == []
