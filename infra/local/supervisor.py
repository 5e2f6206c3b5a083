"""Starts parts in their order, keeps them running, stops them in reverse.

One thread owns every process, from its start to its end: the kernel kills a child when the thread
that started it is gone (see tether.py), so the callers of `start` may come and go, and the parts
end exactly when the supervisor does.

Failures: while the cluster comes up, a part that dies START_DEATHS_MAX times, or is not ready in
its time, stops everything again and `start` raises PartError. Later, a part that dies is started
again for ever (keeper.py). The process dies: the kernel ends every part.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import groupby

from infra.local.errors import PartError
from infra.local.keeper import RESTING, Keeper
from infra.local.part import Part, PartState

STEP_SECONDS = 0.05
REQUEST_SECONDS_MAX = 10.0
START_DEATHS_MAX = 3  # a port or a memory segment of an earlier life may need a moment to go

log = logging.getLogger(__name__)

Observer = Callable[[Sequence[Keeper]], None]


def _unobserved(_: Sequence[Keeper]) -> None:
    """What most tests need to know of every change."""


class Supervisor:
    """Runs `parts`; a part's `after` names parts that come before it in the sequence.

    `observer` is called, in the supervisor's thread, whenever a part's state or process changed.
    A context manager: entering starts, leaving stops.
    """

    def __init__(self, parts: Sequence[Part], observer: Observer = _unobserved) -> None:
        self.keepers = [Keeper(part) for part in parts]
        self._observer = observer
        self._observed: list[object] = []
        self._stop = threading.Event()
        self._started: Future[None] = Future()
        self._requests: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._live, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every part and wait until all are ready.

        Raises PartError, with nothing left running, when one of them does not get there, or when
        `stop` is called meanwhile. An interrupted start stops what it has started.
        """
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop every part, last started first, and wait until all have ended. May be repeated."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pid(self, name: str) -> int:
        """The pid that plays the part now. Raises ProcessLookupError when there is none."""
        child = self.keeper(name).child
        if child is None or child.exit_code() is not None:
            raise ProcessLookupError(f"{name} does not run")
        return child.pid

    def kill(self, name: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part's process; what dies of it is started again."""
        self.keeper(name).send(sent)

    def hold(self, name: str) -> None:
        """Kill a part and keep it down until `release`; returns when it is down."""
        self._request(self.keeper(name).hold)

    def release(self, name: str) -> None:
        """Start a held part again; returns when it is starting."""
        self._request(self.keeper(name).release)

    def keeper(self, name: str) -> Keeper:
        """The keeper of a part, or of the only one of that kind. Raises KeyError otherwise."""
        exact = [keeper for keeper in self.keepers if keeper.part.name == name]
        found = exact or [keeper for keeper in self.keepers if keeper.part.kind == name]
        if len(found) != 1:
            raise KeyError(name)
        return found[0]

    def _request(self, action: Callable[[], None]) -> None:
        done: Future[None] = Future()

        def act() -> None:
            action()
            done.set_result(None)

        self._requests.append(act)
        done.result(REQUEST_SECONDS_MAX)

    def _live(self) -> None:
        failure: BaseException | None = None
        try:
            self._bring_up()
            self._started.set_result(None)
            self._keep()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the parts must be stopped
            failure = error
        self._bring_down()
        if failure is None:
            return
        if self._started.done():
            log.error("supervisor failed", exc_info=failure)
        else:
            self._started.set_exception(failure)

    def _bring_up(self) -> None:
        while not all(self._reached(keeper.part.name) for keeper in self.keepers):
            for keeper in self.keepers:
                self._advance(keeper)
                self._observe()
            if self._stop.wait(STEP_SECONDS):
                raise PartError("cluster", "stopped while it was starting")

    def _advance(self, keeper: Keeper) -> None:
        part = keeper.part
        if keeper.state is PartState.WAITING:
            if all(map(self._reached, part.after)):
                keeper.launch()
            return
        keeper.step()
        if keeper.state in RESTING and (part.once or keeper.deaths_in_a_row >= START_DEATHS_MAX):
            raise PartError(part.name, "ended instead of getting ready", part.log)
        if keeper.overdue():
            limit = f"was not ready within {part.ready_seconds_max:g} s"
            raise PartError(part.name, limit, part.log)

    def _reached(self, name: str) -> bool:
        return self.keeper(name).state in (PartState.READY, PartState.DONE)

    def _keep(self) -> None:
        while not self._stop.wait(STEP_SECONDS):
            while self._requests:
                self._requests.pop(0)()
            for keeper in self.keepers:
                keeper.step()
            self._observe()

    def _bring_down(self) -> None:
        for _, group in groupby(reversed(self.keepers), key=lambda keeper: keeper.part.kind):
            leaving = list(group)
            for keeper in leaving:
                keeper.stop()
            self._observe()
            pause = threading.Event()
            while not all([keeper.stopped() for keeper in leaving]):
                pause.wait(STEP_SECONDS)
            self._observe()

    def _observe(self) -> None:
        seen: list[object] = [(keeper.state, keeper.child) for keeper in self.keepers]
        if seen != self._observed:
            self._observed = seen
            self._observer(self.keepers)
