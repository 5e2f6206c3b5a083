"""The parts of the documents that are written by a program: `python -m tests.style.generated`.

Each stands between `<!-- NAME: generated -->` and `<!-- /NAME -->`; a test compares.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from services.api import (
    app,
    authentication,
    bodies,
    feed,
    file_names,
    files,
    inspector,
    jobs,
    sockets,
    typing_notices,
    viewing,
)
from shared import keys, sessions, states, thread_log
from shared.settings import PREFIX, Settings
from tests.style import scaling
from tests.style.documents import PROTOCOL, SETTINGS
from tests.style.scaling import SCALING
from tests.style.sources import PRODUCT, ROOT, modules, name_of, parsed, text

STATES_SOURCE: Final = ROOT / "shared" / "states.py"
_KINDS: Final = {
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "Path": "path",
    "tuple": "list",
}


def settings_table() -> str:
    """Every setting, in the order of the class."""
    needed = _needed_by()
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            _kind(field),
            _default(field),
            field.description or "",
            ", ".join(sorted(needed.get(name, ()))),
        )
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "value", "default", "meaning", "needed by"), rows)


def state_chain(chain: Iterable[str], name: str) -> str:
    """A chain drawn, and what each state means: the comment beside it in shared/states.py."""
    drawn = " ──▶ ".join(chain)
    meanings = _comments(name)
    rows = [(f"`{state}`", meanings[state]) for state in chain]
    return f"```text\n{drawn}\n```\n\n{_table(('state', 'means'), rows)}"


def job_statuses() -> str:
    """Which statuses follow one another."""
    onward = [status for status in states.JOB_STATUSES if status not in states.FINAL_STATUSES]
    final = [status for status in states.JOB_STATUSES if status in states.FINAL_STATUSES]
    return f"```text\n{' ──▶ '.join(onward)} ──▶ {' | '.join(final)}\n```"


def limits() -> str:
    """The bounds a client may meet."""
    rows = [
        ("`content`, `query`", f"{bodies.MESSAGE_CHARS_MAX:,} characters"),
        ("`title`", f"{bodies.TITLE_CHARS_MAX:,} characters"),
        (
            "`metadata`",
            f"{bodies.METADATA_BYTES_MAX // 1024} KiB of JSON,"
            f" {bodies.METADATA_DEPTH_MAX} levels deep",
        ),
        ("participants of a thread", f"{thread_log.PARTICIPANTS_MAX}, beside its owner"),
        ("a request's body, but for a file", f"{app.BODY_BYTES_MAX // 1024:,} KiB"),
        ("`attachments` of a message", f"{bodies.ATTACHMENTS_MAX}"),
        ("a file's name", f"{file_names.NAME_BYTES_MAX} bytes of UTF-8; a longer one is cut"),
        ("an image", f"{inspector.IMAGE_PIXELS_MAX:,} pixels"),
        ("text of a file that is read", f"{inspector.TEXT_CHARS_MAX:,} characters"),
        ("uploads of a user at once", f"{files.UPLOADS_PER_USER_MAX}, at one gateway"),
        ("a token", f"{authentication.TOKEN_BYTES_MAX // 1024} KiB"),
        ("`sub`", f"{authentication.USER_CHARS_MAX} characters"),
        ("a ticket", f"{keys.TICKET_SECONDS} seconds, and once"),
        (
            "a frame of a socket",
            f"{Settings.model_fields['ws_message_bytes_max'].default // 1024} KiB",
        ),
        (
            "frames of a socket",
            f"{sockets.FRAMES_AT_ONCE_MAX} at once, {sockets.FRAMES_PER_SECOND_MAX} a second",
        ),
        ("a `typing`", f"{typing_notices.TYPING_SECONDS:g} seconds"),
        (
            "a session",
            f"{keys.SESSION_SECONDS // 3600} hours behind its last use,"
            f" and {sessions.SESSIONS_MAX} of a user",
        ),
        ("a page of a job's events", f"{jobs.PAGE_EVENTS_MAX:,} events"),
        ("an `Idempotency-Key` is remembered", f"{keys.IDEMPOTENCY_SECONDS // 3600} hours"),
        ("silence of a stream, before a comment", f"{feed.PING_SECONDS:g} seconds"),
        (
            "`retry:` of a `reconnect`",
            f"{viewing.RECONNECT_MS_MIN:,} to {viewing.RECONNECT_MS_MAX:,} ms, at random",
        ),
    ]
    return _table(("of", "bound"), rows)


def scaling_steps(grouped: float) -> str:
    """What each step needs."""
    head = ["streams at once", *(f"{streams:,}" for streams in scaling.STEPS)]
    return _table(head, ([name, *cells] for name, cells in scaling.steps(grouped)))


BLOCKS: Final[dict[tuple[Path, str], Callable[[], str]]] = {
    (SETTINGS, "settings"): settings_table,
    (PROTOCOL, "limits"): limits,
    (PROTOCOL, "job statuses"): job_statuses,
    (PROTOCOL, "thread states"): lambda: state_chain(states.THREAD_STATES, "THREAD_STATES"),
    (PROTOCOL, "message states"): lambda: state_chain(states.MESSAGE_STATES, "MESSAGE_STATES"),
    (SCALING, "steps, one token"): lambda: scaling_steps(1),
    (SCALING, "steps, six tokens"): lambda: scaling_steps(6),
}


def with_blocks(document: Path, written: str) -> str:
    """The document with its generated parts made again. Raises ValueError where one is missing."""
    for (path, name), make in BLOCKS.items():
        if path != document:
            continue
        opening, closing = f"<!-- {name}: generated -->", f"<!-- /{name} -->"
        pattern = re.compile(f"(?<={re.escape(opening)}\n).*?(?={re.escape(closing)})", re.DOTALL)
        block = f"\n{make()}\n\n"
        written, found = pattern.subn(lambda _, block=block: block, written)
        if found != 1:
            raise ValueError(f"{name_of(document)} needs one block {opening} … {closing}")
    return written


def main() -> int:
    for document in {path for path, _ in BLOCKS}:
        document.write_text(with_blocks(document, document.read_text()))
    return 0


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _kind(field: FieldInfo) -> str:
    kind = str(field.annotation)
    word = next((word for name, word in _KINDS.items() if name in kind), "text")
    facts = {name: value for part in field.metadata for name, value in _facts(part).items()}
    if "pattern" in facts:
        return " or ".join(f"`{word}`" for word in facts["pattern"].strip("^()$").split("|"))
    low = (
        f"from {facts['ge']}" if "ge" in facts else f"above {facts['gt']}" if "gt" in facts else ""
    )
    high = f"to {facts['le']}" if "le" in facts else f"below {facts['lt']}" if "lt" in facts else ""
    return " ".join(part for part in (word, low, high) if part)


def _facts(part: Any) -> dict[str, Any]:
    names = ("ge", "gt", "le", "lt", "pattern")
    found = {name: getattr(part, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "host and process id"
    if field.default is None or field.default == ():
        return "–"
    value = field.default
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _needed_by() -> dict[str, set[str]]:
    """Who calls ``settings.required("…")``, by setting."""
    needed: dict[str, set[str]] = {}
    for path in modules(*PRODUCT):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "required":
                (setting,) = (a.value for a in node.args if isinstance(a, ast.Constant))
                needed.setdefault(str(setting), set()).add(_who(path))
    return needed


def _who(path: Path) -> str:
    tree, folder, *rest = path.relative_to(ROOT).parts
    program = path.stem if path.stem in ("divide", "keep", "migrate", "rebuild") else folder
    assert tree in PRODUCT
    assert rest, f"{path}: who asks for this setting?"
    return program


def _comments(name: str) -> dict[str, str]:
    """The comments beside the members of a tuple."""
    body = re.search(rf"^{name}.*?= \((.*?)^\)", text(STATES_SOURCE), re.DOTALL | re.MULTILINE)
    assert body is not None
    return dict(re.findall(r'"([A-Z]+)",  # (.+)', body[1]))


if __name__ == "__main__":
    sys.exit(main())
