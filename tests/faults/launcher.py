"""`python -m tests.faults.launcher MODULE …`: a service, patched as FAULTS_PATCH says.

FAULTS_PATCH names patches of `mutants`, separated by commas; without it the service runs as it is.

Failures: a patch that does not exist ends the process with a KeyError, so the cluster does not
come up, instead of running unharmed.
"""

from __future__ import annotations

import os
import runpy
import sys

from tests.faults.mutants import PATCHES


def main(arguments: list[str]) -> None:
    """Run the module that is named first as the main program."""
    for name in filter(None, os.environ.get("FAULTS_PATCH", "").split(",")):
        PATCHES[name]()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
