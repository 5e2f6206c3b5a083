"""What a power cut does to Redis: the end of its append-only file was never on the disk.

moment ──▶ writes go on ──▶ lose_since(moment): kill, cut the file, start again
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from tests.support.servers import Server

WRITTEN_SECONDS_MAX = 10.0
STEP_SECONDS = 0.01


@dataclass(frozen=True)
class Moment:
    """How long the file was."""

    file: Path
    size: int


def moment(server: Server) -> Moment:
    """Now: everything the server has acknowledged so far will outlive the loss."""
    with redis.Redis.from_url(server.url) as connected:
        client = cast("Any", connected)
        client.config_set("auto-aof-rewrite-percentage", 0)  # or the file might be another one
        deadline = time.monotonic() + WRITTEN_SECONDS_MAX
        while client.info("persistence")["aof_buffer_length"]:
            assert time.monotonic() < deadline, "what was acknowledged is not in the file"
            time.sleep(STEP_SECONDS)
        folder = Path(client.config_get("dir")["dir"])
        files = folder / client.config_get("appenddirname")["appenddirname"]
    file = max(files.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
    return Moment(file, file.stat().st_size)


def lose_since(server: Server, then: Moment) -> None:
    """Kill the server and start it again with what was on the disk at that moment."""
    server.hold()
    assert then.file.stat().st_size > then.size, "nothing was written that could be lost"
    os.truncate(then.file, then.size)
    server.release()
