"""Why a local cluster cannot do what was asked; every message is for the person who asked."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """The cluster cannot do it; nothing was left running for the attempt. `log` may tell more."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class ClusterBusyError(ClusterError):
    """Another supervisor holds this data folder."""


class PartError(ClusterError):
    """A part does not start, or could not even be tried."""

    def __init__(self, part: str, reason: str, log: Path | None = None) -> None:
        super().__init__(f"{part}: {reason}", log)
        self.reason = reason
