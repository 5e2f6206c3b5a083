"""What is printed for each event, in a pipe and in a terminal."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from infra.console.follow import Event, Lost, Resumed, Sight
from infra.console.screen import VALUE_CHARS_MAX, Screen

ESCAPE = "\x1b"


def shown(*sights: Sight, colours: bool = False) -> str:
    """The screen after some sights, 20 columns wide."""
    output = StringIO()
    console = Console(
        file=output, width=20, force_terminal=colours, color_system="standard" if colours else None
    )
    screen = Screen(console)
    for sight in sights:
        screen.show(sight)
    screen.end()
    return output.getvalue()


def event(kind: str, seq: int = 1, **data: Any) -> Event:
    return Event(seq, kind, {"type": kind, **data})


def token(content: str) -> Event:
    return event("token", content=content)


DONE = {
    "status": "done",
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 13, "completion_tokens": 20, "total_tokens": 33},
    "latency_ms": 1234,
}


def test_tokens_flow_as_one_text_however_narrow_the_terminal() -> None:
    text = "a long line of an answer that no terminal of twenty columns can hold\n\nnext"
    parts = [text[:10], text[10:11], text[11:]]
    assert shown(*map(token, parts)) == f"{text}\n"


def test_line_begins_below_the_text() -> None:
    lines = shown(token("half a sen"), event("done", 14, **DONE)).splitlines()
    assert lines == ["half a sen", "■ done · stop · 13 + 20 tokens · 1.23 s · 14 events"]


def test_text_that_ends_in_a_newline_keeps_it() -> None:
    assert shown(token("a\n"), token("b")) == "a\nb\n"


def test_usage_that_nobody_counted_is_left_out() -> None:
    line = shown(event("done", 1, status="cancelled", usage=None, latency_ms=0))
    assert line == "■ cancelled · 0.00 s · 1 events\n"


def test_first_attempt_voids_nothing() -> None:
    assert "void" not in shown(event("started", attempt=1, agent="a", model="m"))


def test_later_attempt_says_that_the_text_is_void() -> None:
    line = shown(event("started", attempt=2, agent="a", model="m"))
    assert line.startswith("── attempt 2 · a · m ──")
    assert "void" in line


@pytest.mark.parametrize(
    ("sight", "line"),
    [
        (event("tool_call", name="search", arguments={"q": "Nil"}), '→ search {"q": "Nil"}\n'),
        (event("tool_result", name="search", content="two\nlines"), "← search two⏎lines\n"),
        (
            event("error", code="model_timeout", message="silent", retryable=True),
            "✗ model_timeout: silent (worth another try)\n",
        ),
        (event("metadata", metadata={"a": 1}), '· metadata {"a": 1}\n'),
        (event("to.come", new=1), '· to.come {"type": "to.come", "new": 1}\n'),
        (Lost("closed", 7, 0.25), "⇢ closed after seq 7: again in 0.2 s\n"),
        (Resumed(7), "⇠ connected again, after seq 7\n"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_everything_else_is_one_line(sight: Sight, line: str) -> None:
    assert shown(sight) == line


def test_long_value_is_cut() -> None:
    line = shown(event("tool_result", name="read", content="x" * 1000))
    assert line.endswith("x…\n")
    assert len(line) < VALUE_CHARS_MAX + 20


def test_text_cannot_steer_the_terminal() -> None:
    evil = f"{ESCAPE}]0;title\x07{ESCAPE}[2J\x9b1A\u202eabc"
    for sight in (
        token(evil),
        event("tool_result", name=evil, content=evil),
        event("error", code=evil, message=evil, retryable=False),
        event(evil, x=evil),
        event("started", attempt=1, agent=evil, model=evil),
        event("done", status=evil, finish_reason=evil),
    ):
        screen = shown(sight)
        assert not {ESCAPE, "\x07", "\x9b", "\u202e"} & set(screen)
        assert "abc" in screen


def test_markup_in_an_answer_is_text() -> None:
    assert shown(token("[bold]a[/bold] :smile: [link=x]b")) == "[bold]a[/bold] :smile: [link=x]b\n"


@pytest.mark.parametrize(
    ("status", "colour"), [("done", "32"), ("failed", "31"), ("cancelled", "33")]
)
def test_end_has_a_colour_in_a_terminal(status: str, colour: str) -> None:
    end = event("done", status=status)
    assert f"{ESCAPE}[{colour}m" in shown(end, colours=True)
    assert ESCAPE not in shown(end)


def test_text_of_the_answer_has_no_colour_of_ours() -> None:
    assert ESCAPE not in shown(token("plain"), colours=True)
