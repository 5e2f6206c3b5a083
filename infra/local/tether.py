"""Turn into COMMAND, tied to the life of the process that asked: `tether.py PARENT_PID COMMAND…`.

The kernel sends SIGKILL to COMMAND when the thread that started it is gone, so nothing outlives a
supervisor that is killed with SIGKILL and cannot clean up. It is a program of its own, and not a
`preexec_fn`, because code between fork and exec may deadlock in a process that has threads.

Failures: the parent dies before the request is made: seen by its pid, COMMAND is not run. A
command that changes its user loses the tie and has to renew it (`setpriv --pdeathsig`). Where the
kernel has no such request (not Linux), leftovers are ended by the next start, see state.py.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
COMMAND_MISSING = 127  # what a shell answers


def main(parent: int, command: list[str]) -> int:
    """Replace this process by `command`; returns only when that cannot be done."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            return COMMAND_MISSING
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return COMMAND_MISSING


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
