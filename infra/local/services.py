"""The three services and the migration, as parts of a local cluster."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from infra.local.part import Part
from infra.local.probe import http_ok

READY_SECONDS_MAX = 60.0
READY_FILE_SECONDS_MAX = 5.0  # a service touches it every second
STOP_SECONDS_MAX = 25.0  # a service drains for up to 20 s
MIGRATE_SECONDS_MAX = 120.0


def migrate_part(
    env: Mapping[str, str], *, log: Path, after: tuple[str, ...], launcher: str | None = None
) -> Part:
    """Brings the database to the schema of this checkout, at every start of the cluster.

    With a `launcher` it is run by that, as a service is.
    """
    return Part(
        name="migrate",
        command=(sys.executable, "-m", *_modules(launcher, "services.persister.migrate")),
        log=log,
        env=env,
        after=after,
        once=True,
        ready_seconds_max=MIGRATE_SECONDS_MAX,
    )


def service_part(
    name: str,
    env: Mapping[str, str],
    *,
    log: Path,
    ready_file: Path,
    after: tuple[str, ...],
    launcher: str | None = None,
) -> Part:
    """A service named `KIND-NUMBER`, ready while it touches `ready_file`.

    With a `launcher` it is run by that module, which gets the service's module as its argument.
    """
    kind = name.rpartition("-")[0]
    return Part(
        name=name,
        kind=kind,
        command=(sys.executable, "-m", *_modules(launcher, f"services.{kind}")),
        log=log,
        env={**env, "HEADWATER_READY_FILE": str(ready_file)},
        after=after,
        # Left by a process that was killed, it would speak for the one that comes after it.
        prepare=lambda: ready_file.unlink(missing_ok=True),
        ready=lambda: is_fresh(ready_file),
        ready_seconds_max=READY_SECONDS_MAX,
        stop_seconds_max=STOP_SECONDS_MAX,
    )


def _modules(launcher: str | None, module: str) -> tuple[str, ...]:
    return (launcher, module) if launcher else (module,)


def gateway(part: Part, port: int) -> Part:
    """A service that also listens on `port`, and is ready when it says so itself."""
    return replace(
        part,
        env={**part.env, "HEADWATER_PORT": str(port)},
        ready=lambda: part.ready() and http_ok(port, "/readyz"),
    )


def is_fresh(ready_file: Path) -> bool:
    """Whether the service that touches this file still does."""
    try:
        return time.time() - ready_file.stat().st_mtime < READY_FILE_SECONDS_MAX
    except FileNotFoundError:
        return False
