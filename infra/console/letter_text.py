"""Dead letters as text: a line, a page, JSON. No I/O.

What a letter holds was refused for a reason and may be anything. Nothing of it reaches a terminal
as a control character, and none of it can pass for a line of ours.
"""

from __future__ import annotations

import json
from typing import Any, Final

from infra.console.screen import CONTROL, VALUE_CHARS_MAX
from shared.dead_letters import Letter

UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60))
NAME_WIDTH: Final = 8


def as_line(letter: Letter, *, now_ms: int) -> str:
    """One line for a list."""
    facts = [letter.kind, letter.job_id or "-", letter.thread_id or "-", letter.reason]
    kind, job_id, thread_id, reason = map(one_line, facts)
    age = _age(letter, now_ms)
    return f"{letter.id!s:<17}  {kind:<7}  {age:>6}  {job_id}  {thread_id}  {reason}".rstrip()


def as_page(letter: Letter, *, now_ms: int) -> str:
    """Every field, each behind its name; JSON over several lines."""
    own = [
        ("id", str(letter.id)),
        ("kind", letter.kind),
        ("at", f"{letter.at} ({_age(letter, now_ms)} ago)"),
        ("entry", letter.entry),
        ("reason", letter.reason),
    ]
    rows = [_row(name, text) for name, text in own if text]
    rows += [_row(f"· {one_line(_text(name))}", _pretty(value)) for name, value in letter.fields]
    return "\n".join(rows)


def as_json(letter: Letter) -> str:
    """An object on one line. A field is a pair, since a name may come twice."""
    said: dict[str, Any] = {
        "id": str(letter.id),
        "kind": letter.kind,
        "job_id": letter.job_id,
        "thread_id": letter.thread_id,
        "at": letter.at,
        "reason": letter.reason,
        "entry": letter.entry,
        "fields": [[_text(name), _text(value)] for name, value in letter.fields],
    }
    return json.dumps(said).replace("\x7f", "\\u007f")  # the one that JSON leaves as it is


def one_line(text: str) -> str:
    """Text as a part of a line, cut."""
    text = visible(text).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"


def visible(text: str) -> str:
    """Text whose control characters, and halves of characters, are escapes."""
    escaped = CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return escaped.encode(errors="backslashreplace").decode()


def _row(name: str, text: str) -> str:
    """Further lines are indented: none can look like the next field."""
    lines = visible(text).split("\n")
    return f"{name:<{NAME_WIDTH}} " + ("\n" + " " * (NAME_WIDTH + 1)).join(lines)


def _pretty(value: bytes) -> str:
    text = _text(value)
    try:
        parsed = json.loads(value)
        return json.dumps(parsed, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # not JSON, or nested too deep for anybody
        return text


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _age(letter: Letter, now_ms: int) -> str:
    seconds = max(0, now_ms - letter.written_ms) // 1000
    for unit, size in UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
