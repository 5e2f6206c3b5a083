"""What the commands say from within a container: `python -m infra.container welcome|token`."""

from __future__ import annotations

import argparse
import sys

from infra.local.report import say, say_up
from infra.local.tokens import make_token
from shared.errors import SettingsError
from shared.settings import load_settings

FIRST_SUBJECT = "alice"


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for: the exit code."""
    asked = parser().parse_args(arguments)
    try:
        token = make_token(load_settings().required("auth_secret"), asked.sub)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if asked.url is None:
        say(token)
    else:
        say_up(asked.url, token)
    return 0


def parser() -> argparse.ArgumentParser:
    """Both commands; `welcome` is told the address, which nobody knows in here."""
    top = argparse.ArgumentParser(prog="python -m infra.container", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    token = commands.add_parser("token", help="print a token, good for 24 hours")
    token.add_argument("--sub", default=FIRST_SUBJECT, help="the user it is for")
    token.set_defaults(url=None)
    welcome = commands.add_parser("welcome", help="say where it is, with a first request")
    welcome.add_argument("--url", required=True)
    welcome.set_defaults(sub=FIRST_SUBJECT)
    return top


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
