"""Run a command as nobody when we are root: PostgreSQL refuses to run as root, and rightly so.

Nobody may not pass through a folder such as /root, where a checkout or its `.venv` may well lie. To
open those folders to everybody would be wrong, so in that case alone the command keeps the one
capability that lets it pass, and loses every other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from infra.local.errors import PartError

NOBODY = 65534
OTHERS_MAY_PASS = 0o001
PASS_ANYWHERE = (
    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),
    # initdb asks access(2) whether it may run postgres, which ignores capabilities without this.
    *("--securebits", "+no_setuid_fixup"),
)


def unprivileged(command: Sequence[str], *, needs: Iterable[Path]) -> tuple[str, ...]:
    """The command line that runs `command` without root's rights; itself when we are not root.

    `needs` are the files and folders the command must reach. Raises PartError where that is
    impossible.
    """
    if os.geteuid() != 0:
        return tuple(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PartError(
            "postgres",
            "PostgreSQL does not run as root, and setpriv (of util-linux), with which it would be"
            " run as nobody, is missing: install util-linux, or do this as an ordinary user, or"
            " set HEADWATER_DATABASE_URL to a server that runs",
        )
    become = ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    passing = () if all(map(anybody_reaches, needs)) else PASS_ANYWHERE
    # To change the user unties the process from its starter (tether.py): tie it again.
    return (setpriv, *become, *passing, "--pdeathsig", "KILL", *command)


def give_away(path: Path) -> None:
    """Make nobody the owner of `path`, when we are root."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def anybody_reaches(path: Path) -> bool:
    """Whether every folder above `path` lets everybody pass."""
    return all(folder.stat().st_mode & OTHERS_MAY_PASS for folder in path.absolute().parents)
