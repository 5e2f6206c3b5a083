"""A launched module runs as itself; with a patch that does not exist it does not run at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN_SECONDS_MAX = 30


def launched(patches: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.launcher", *arguments],
        env={**os.environ, "FAULTS_PATCH": patches},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
    )


@pytest.fixture
def history(tmp_path: Path) -> str:
    """One that is empty, and so has violations."""
    path = tmp_path / "history.jsonl"
    path.touch()
    return str(path)


def test_a_module_runs_with_its_arguments(history: str) -> None:
    ended = launched("", "tests.faults.oracle", history)
    assert ended.stdout.endswith("violations\n")
    assert ended.returncode == 1


def test_an_unknown_patch_ends_it(history: str) -> None:
    ended = launched("no-such-patch", "tests.faults.oracle", history)
    assert "KeyError: 'no-such-patch'" in ended.stderr
    assert ended.stdout == ""
