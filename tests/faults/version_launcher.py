"""`python -m tests.faults.version_launcher MODULE`: run it with the code VERSION_FILE names."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Become the module's process, in the folder of that code."""
    os.chdir(Path(os.environ["VERSION_FILE"]).read_text())
    os.execv(sys.executable, [sys.executable, "-m", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
