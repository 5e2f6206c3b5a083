"""Keeps one part running: its life, one small step at a time.

    waiting ──▶ starting ──▶ ready          a part that runs once: starting ──▶ done
                 ▲    │        │
                 │    ▼ died   ▼ died
                 └── backing off / crash loop          any ──▶ stopping ──▶ stopped

Nothing here waits: `step` looks at the process and moves on, so one thread keeps many parts.

Failures: a part that dies is started again after RESTART_SECONDS_MIN, twice that the next time, and
so on up to RESTART_SECONDS_MAX; having run for STABLE_SECONDS makes the count begin anew. From
CRASH_LOOP_DEATHS deaths in a row it is shown as a crash loop. A process that does not end in
`stop_seconds_max` is killed.
"""

from __future__ import annotations

import logging
import signal
import time

from infra.local.errors import PartError
from infra.local.part import Life, Part, PartState
from infra.local.process import exit_text

RESTART_SECONDS_MIN = 0.2
RESTART_SECONDS_MAX = 10.0
STABLE_SECONDS = 30.0
CRASH_LOOP_DEATHS = 5

log = logging.getLogger(__name__)

RUNNING = (PartState.STARTING, PartState.READY)
RESTING = (PartState.BACKING_OFF, PartState.CRASH_LOOP)


class Keeper:
    """One part and the process that plays it now. Used by one thread, but for `send`."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.state = PartState.WAITING
        self.child: Life | None = None
        self.since = time.time()  # when the present process was started
        self.ready_seconds: float | None = None  # from that start to its readiness
        self.restarts = 0
        self.deaths_in_a_row = 0
        self._begun = 0.0
        self._next_start = 0.0
        self._kill_at = 0.0

    def launch(self) -> None:
        """Start the process. Raises PartError when the part cannot even be prepared."""
        part = self.part
        self.state, self.since, self.ready_seconds = PartState.STARTING, time.time(), None
        self._begun = time.monotonic()
        part.prepare()
        self.child = part.launch(part)
        log.info("part started name=%s pid=%d", part.name, self.child.pid)

    def step(self) -> None:
        """Notice what has happened to the process and do what is due."""
        if self.state in RUNNING and self.child is not None:
            code = self.child.exit_code()
            if code is not None:
                self._ended(self.child, code)
            elif self.state is PartState.STARTING and not self.part.once and self.part.ready():
                self._became(PartState.READY)
        elif self.state in RESTING and time.monotonic() >= self._next_start:
            self._start_again()

    def overdue(self) -> bool:
        """Whether the part has been starting for longer than it may."""
        return (
            self.state is PartState.STARTING
            and time.monotonic() - self._begun > self.part.ready_seconds_max
        )

    def send(self, sent: signal.Signals) -> None:
        """Signal the process. Raises ProcessLookupError when the part has none."""
        child = self.child
        if child is None or child.exit_code() is not None:
            raise ProcessLookupError(f"{self.part.name} does not run")
        child.send(sent)

    def hold(self) -> None:
        """End the process at once and do not start it again until `release`."""
        if self.child is not None:
            self.child.end()
        self.state = PartState.HELD

    def release(self) -> None:
        """Start a held part again."""
        if self.state is PartState.HELD:
            self._start_again()

    def stop(self) -> None:
        """Ask the process to end; `stopped` tells when it has."""
        if self.child is None or self.child.exit_code() is not None:
            self.state = PartState.STOPPED
            return
        self.state = PartState.STOPPING
        self._kill_at = time.monotonic() + self.part.stop_seconds_max
        self.child.send(self.part.stop_signal)

    def stopped(self) -> bool:
        """Whether nothing of the part runs any more; kills what stays beyond its time."""
        if self.state is PartState.STOPPED or self.child is None:
            return True
        code = self.child.exit_code()
        if code is None and time.monotonic() < self._kill_at:
            return False
        if code is None:
            log.warning(
                "part killed name=%s seconds=%g", self.part.name, self.part.stop_seconds_max
            )
        self.child.end()
        log.info("part stopped name=%s", self.part.name)
        self.state = PartState.STOPPED
        return True

    def _became(self, state: PartState) -> None:
        self.state = state
        self.ready_seconds = time.monotonic() - self._begun
        log.info("part %s name=%s seconds=%.2f", state, self.part.name, self.ready_seconds)

    def _ended(self, child: Life, code: int) -> None:
        child.end()
        if self.part.once and code == 0:
            self._became(PartState.DONE)
            return
        self._died(time.monotonic() - self._begun, exit_text(code))

    def _died(self, uptime: float, how: str) -> None:
        self.deaths_in_a_row = 1 if uptime >= STABLE_SECONDS else self.deaths_in_a_row + 1
        wait = min(RESTART_SECONDS_MIN * 2 ** (self.deaths_in_a_row - 1), RESTART_SECONDS_MAX)
        self._next_start = time.monotonic() + wait
        looping = self.deaths_in_a_row >= CRASH_LOOP_DEATHS
        self.state = PartState.CRASH_LOOP if looping else PartState.BACKING_OFF
        log.warning(
            "part died name=%s %s uptime_seconds=%.1f restart_in_seconds=%.1f",
            *(self.part.name, how, uptime, wait),
        )

    def _start_again(self) -> None:
        self.restarts += 1
        try:
            self.launch()
        except PartError as error:
            self._died(0.0, error.reason)
