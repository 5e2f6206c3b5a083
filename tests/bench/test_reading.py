"""What a recorded answer says of its tokens: each one's moment of sending, and of arriving."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure, quantile
from tests.bench.streams import Answer, read_tokens
from tests.support.model_script import STAMPS

MICROSECONDS = 1_000_000


def frame(*sent: float) -> bytes:
    """One event with the tokens that were sent at those seconds."""
    said = b"".join(b"%09d " % (round(at * MICROSECONDS) % STAMPS) for at in sent)
    return b'id: 2\nevent: token\ndata: {"seq":2,"content":"%b","deltas":%d}\n\n' % (
        said,
        len(sent),
    )


def answer(*chunks: tuple[float, bytes]) -> Answer:
    return Answer(began=0.0, ended=chunks[-1][0], chunks=list(chunks))


def times(read: Answer) -> list[tuple[float, float]]:
    return [(round(one.sent, 5), one.arrived) for one in read_tokens(read)]


def test_each_token_of_an_event_has_its_own_moment() -> None:
    assert times(answer((5.0, frame(4.5, 4.75)))) == [(4.5, 5.0), (4.75, 5.0)]


def test_a_token_arrives_with_the_chunk_that_completes_it() -> None:
    whole = frame(1.0, 2.0)
    cut = whole.index(b"%09d" % 2_000_000) + 4
    assert times(answer((3.0, whole[:cut]), (4.0, whole[cut:]))) == [(1.0, 3.0), (2.0, 4.0)]


@pytest.mark.parametrize("event", [b"done", b"metadata"])
def test_what_other_events_quote_is_not_read(event: bytes) -> None:
    quoted = b'id: 3\nevent: %b\ndata: {"content":"000000001 "}\n\n' % event
    assert times(answer((2.0, quoted + frame(1.0) + quoted))) == [(1.0, 2.0)]


def test_a_stamp_from_before_the_clock_wrapped_is_of_a_moment_ago() -> None:
    wrapped = STAMPS / MICROSECONDS
    assert times(answer((wrapped + 0.5, frame(wrapped - 0.5)))) == [(wrapped - 0.5, wrapped + 0.5)]


@pytest.mark.parametrize(("part", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1)])
def test_quantiles_are_samples(part: float, value: float) -> None:
    assert quantile([float(n) for n in range(100, 0, -1)], part) == value


def test_a_pooled_figure_is_of_all_samples_and_shows_its_rounds() -> None:
    assert Figure.pooled([[1.0, 2.0, 3.0], [9.0]], 0.5) == Figure(2.0, 2.0, 9.0)
