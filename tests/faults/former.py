"""The version before this one, from the repository's history, and services that run it.

    git archive <version> ──▶ folder ──▶ python -m tests.faults.version_launcher MODULE
                                            └── the folder's own code, as `versions/<part>` says

Which version is the one before: FORMER if that is set (a tag, a commit), the newest tag otherwise,
and without tags the first parent of what is checked out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GIT_SECONDS_MAX = 60


def former_version() -> str:
    """Its commit; the test is skipped where the history does not go back that far."""
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    named = os.environ.get("FORMER") or _git("describe", "--tags", "--abbrev=0") or "HEAD^1"
    commit = _git("rev-parse", "--verify", "--quiet", f"{named}^{{commit}}")
    if not commit:
        pytest.skip(f"the history has no {named}: a shallow clone, or no repository")
    return commit


def unpack(commit: str, folder: Path) -> None:
    """Put the code of a version into a folder."""
    folder.mkdir()
    archive = folder.with_suffix(".tar")
    assert _git("archive", "--output", str(archive), commit) is not None, "it cannot be unpacked"
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True, timeout=GIT_SECONDS_MAX)
    archive.unlink()


def _git(*arguments: str) -> str | None:
    """What it prints; None when it refuses."""
    run = subprocess.run(
        ["git", "-C", ROOT, *arguments], capture_output=True, text=True, timeout=GIT_SECONDS_MAX
    )
    return run.stdout.strip() if run.returncode == 0 else None


@dataclass(frozen=True)
class Versions:
    """Which code each part is started with, the next time it starts."""

    folder: Path
    former: Path

    @property
    def takes_newer_schema(self) -> bool:
        """Whether a persister of the version before starts on a schema that is newer than it."""
        return "SCHEMA_REVISION" in (self.former / "shared/read_model.py").read_text()

    def may_start(self, name: str) -> bool:
        """Whether the part would come up again, once the schema is this version's."""
        if not name.startswith("persister") or self.takes_newer_schema:
            return True
        return (self.folder / name).read_text() != str(self.former)

    def choose(self, names: Iterable[str], *, former: bool) -> None:
        self.folder.mkdir(exist_ok=True)
        for name in names:
            (self.folder / name).write_text(str(self.former if former else ROOT))
