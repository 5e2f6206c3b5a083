"""What the commands say to a person."""

from __future__ import annotations

import shlex
import sys
import time

from infra.local.errors import ClusterError
from infra.local.log_files import last_lines
from infra.local.state import PartRecord

LOG_LINES = 20
FIRST_QUERY = '{"query": "Tell me a story about a river.", "stream": true}'


def say(line: str = "") -> None:
    """One line to the person."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(error: ClusterError) -> None:
    """What went wrong, the end of the log that may tell more, and where all of it is."""
    sys.stderr.write(f"{error}\n")
    if error.log is None:
        return
    for line in last_lines(error.log, LOG_LINES):
        sys.stderr.write(f"  | {line}\n")
    sys.stderr.write(f"the whole log: {error.log}\n")


def say_ready(part: PartRecord) -> None:
    """A part got ready."""
    say(f"  {part.name:<16} {part.state:<6} {part.ready_seconds or 0.0:5.1f} s")


def say_up(url: str, token: str, *, already: bool = False) -> None:
    """Where the cluster is and a first request that works as it stands."""
    say(f"Headwater is up{' already' if already else ''}: {url}")
    say(f"API documentation: {url}/schema")
    say()
    say(f"export TOKEN={token}")
    say(
        f'curl -N {url}/v1/jobs -H "Authorization: Bearer $TOKEN"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(FIRST_QUERY)}"
    )


def say_status(parts: list[PartRecord], *, supervised: bool) -> None:
    """A table of the parts."""
    say(f"{'part':<16} {'pid':>7}  {'state':<14} {'uptime':>10} {'restarts':>9}")
    for part in parts:
        pid = str(part.process.pid) if part.process else "-"
        uptime = duration(time.time() - part.since) if part.process else "-"
        say(f"{part.name:<16} {pid:>7}  {part.state:<14} {uptime:>10} {part.restarts:>9}")
    if not supervised:
        say("nobody supervises these parts any more: `make down`, then `make up`")


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `2 h 5 m`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    for large, small, units in ((days, hours, "dh"), (hours, minutes, "hm"), (minutes, rest, "ms")):
        if large:
            return f"{large} {units[0]} {small} {units[1]}"
    return f"{rest} s"
