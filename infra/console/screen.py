"""What a person sees of a job: its text as it flows, and a line for everything else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from infra.console.follow import Event, Fields, Lost, Resumed, Sight
from shared.hot_state import Job

VALUE_CHARS_MAX: Final = 200
REPLACEMENT: Final = "\ufffd"
# A user's or a tool's text must not be able to steer the operator's terminal.
CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
STATUS_STYLES: Final = {"done": "green", "failed": "red", "cancelled": "yellow"}


class Screen:
    """Shows sights in order. Text of the answer is not ended by a line of ours, but continued."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_text = False
        self._lines: Mapping[str, Callable[[Event], Text]] = {
            "started": _started,
            "metadata": _metadata,
            "tool_call": _tool_call,
            "tool_result": _tool_result,
            "error": _error,
            "done": _done,
        }

    def head(self, job: Job) -> None:
        """Whose job is shown."""
        self._line(Text(f"{job.job_id} of {_clean(job.owner)} in {job.thread_id}", style="bold"))

    def show(self, sight: Sight) -> None:
        """Show one thing that happened."""
        match sight:
            case Event(type="token"):
                self._text(str(sight.data.get("content", "")))
            case Event():
                self._line(self._lines.get(sight.type, _unknown)(sight))
            case Lost():
                what = f"⇢ {sight.reason} after seq {sight.seq}: again in {sight.seconds:.1f} s"
                self._line(Text(what, style="yellow"))
            case Resumed():
                self._line(Text(f"⇠ connected again, after seq {sight.seq}", style="yellow"))

    def end(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if self._in_text:
            self._console.print()
            self._in_text = False

    def _text(self, content: str) -> None:
        if not content:
            return
        text = Text(_clean(content))
        self._console.print(text, end="", soft_wrap=True, highlight=False)
        self._in_text = not content.endswith("\n")

    def _line(self, line: Text) -> None:
        self.end()
        self._console.print(line, soft_wrap=True, highlight=False)


def _started(event: Event) -> Text:
    attempt = event.data.get("attempt", 1)
    who = f"{event.data.get('agent')} · {event.data.get('model')}"
    line = Text(f"── attempt {attempt} · {_clean(who)} ──", style="cyan")
    if attempt > 1:
        line.append(" the text above is void: the answer begins again", style="yellow")
    return line


def _metadata(event: Event) -> Text:
    return Text(f"· metadata {_short(event.data.get('metadata'))}", style="dim")


def _tool_call(event: Event) -> Text:
    name, arguments = event.data.get("name"), event.data.get("arguments")
    return Text(f"→ {_clean(str(name))} {_short(arguments)}", style="magenta")


def _tool_result(event: Event) -> Text:
    style = "red" if event.data.get("is_error") else "magenta"
    name, content = event.data.get("name"), event.data.get("content")
    return Text(f"← {_clean(str(name))} {_short(content)}", style=style)


def _error(event: Event) -> Text:
    again = "worth another try" if event.data.get("retryable") else "final"
    words = f"✗ {event.data.get('code')}: {event.data.get('message')} ({again})"
    return Text(_clean(words), style="red")


def _done(event: Event) -> Text:
    status = str(event.data.get("status"))
    facts = [status, event.data.get("finish_reason"), *_usage(event.data.get("usage"))]
    facts += [f"{event.data.get('latency_ms', 0) / 1000:.2f} s", f"{event.seq} events"]
    line = "■ " + " · ".join(str(fact) for fact in facts if fact)
    return Text(_clean(line), style=STATUS_STYLES.get(status, ""))


def _usage(usage: Fields | None) -> list[str]:
    if not usage:
        return []
    asked, said = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return [f"{asked} + {said} tokens"]


def _unknown(event: Event) -> Text:
    return Text(f"· {_clean(event.type)} {_short(event.data)}", style="dim")


def _short(value: Any) -> str:
    """A value on one line, cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = _clean(text).replace("\n", "⏎")
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"


def _clean(text: str) -> str:
    return CONTROL.sub(REPLACEMENT, text)
