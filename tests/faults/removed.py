"""Takes one mechanism out of a service, so that a test can see that it is needed.

Scripts are edited on their way into the process; everything else is a method put in another's
place. An edit that no longer fits its script fails at once. A service is imported by the patch that
changes it, so that no other has to load it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

from sqlalchemy import text

from shared.redis_scripts import Script

_edits: dict[str, list[tuple[str, str]]] = defaultdict(list)
_read = Script.__init__


def _read_and_edit(self: Script, name: str) -> None:
    _read(self, name)
    for old, new in _edits[name]:
        assert self.source.count(old) == 1, f"{name}: {old}"
        self.source = self.source.replace(old, new)
    self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def _edit(script: str, old: str, new: str = "") -> None:
    _edits[script].append((old, new))
    cast("Any", Script).__init__ = _read_and_edit


def fence() -> None:
    """A superseded attempt may append."""
    _edit(
        "append_events",
        "if j[1] ~= ARGV[5] or j[2] ~= ARGV[6] then return {'FENCED', last, cancel} end\n",
    )


def gap_check() -> None:
    """An append may leave a hole in front of it."""
    _edit(
        "append_events", "if tonumber(ARGV[10]) > last + 1 then return {'GAP', last, cancel} end\n"
    )


def owner_check() -> None:
    """Anybody's heartbeat renews a lease, and takes the entry."""
    _edit(
        "renew_lease",
        "if attempt ~= mine or j[2] ~= ARGV[4] or j[3] ~= 'running' then return {'LOST', 0} end\n",
    )


def trim_guard() -> None:
    """The log is cut without asking who has read it."""
    _edit(
        "trim_log",
        "local groups = redis.call('XINFO'",
        "do return redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', 0) end\n"
        "local groups = redis.call('XINFO'",
    )


def terminal_once() -> None:
    """A cancellation ends a job whatever has become of it."""
    _edit("request_cancel", "if status ~= 'queued' then return status end\n")


def heartbeat() -> None:
    """No lease is ever renewed."""
    from services.orchestrator.heartbeat import Heartbeat

    cast("Any", Heartbeat)._beat = lambda *_: None


def reread() -> None:
    """A follower takes what it hears for all there is."""
    from services.api import follower

    def offer(self: Any, records: list[Any], size: int) -> None:
        if not self._behind:
            self._buffer += records
            self._buffered_bytes += size
            self._wake.set()

    def take_buffer(self: Any) -> list[Any]:
        records = [record for record in self._buffer if record.position > self.cursor]
        self._drop_buffer()
        if records:
            self.cursor = records[-1].position
        return records

    for name, method in (("offer", offer), ("_take_buffer", take_buffer)):
        assert hasattr(follower.Follower, name)
        setattr(follower.Follower, name, method)


def idempotence() -> None:
    """Every delivery of an event counts as an event."""
    from services.persister import store

    counted = "count(*) AS added FROM added"
    archive = str(store.ARCHIVE)
    assert archive.count(counted) == 1
    cast("Any", store).ARCHIVE = text(archive.replace(counted, "count(*) AS added FROM entry"))


REMOVALS: dict[str, Callable[[], None]] = {
    f"no_{remove.__name__}": remove
    for remove in (
        *(fence, gap_check, owner_check, trim_guard, terminal_once),
        *(heartbeat, reread, idempotence),
    )
}
