"""The command line: `python -m infra.local up|down|status|logs|token|run`."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from infra.local import daemon
from infra.local.errors import ClusterError
from infra.local.log_files import follow, last_lines
from infra.local.part import PartState
from infra.local.plan import Plan
from infra.local.report import complain, say, say_ready, say_status, say_up
from infra.local.state import Running, load_running
from infra.local.status import observe
from infra.local.tokens import make_token
from shared.errors import SettingsError
from shared.settings import Settings, load_settings

LOG_LINES = 100
EXIT_NOT_UP = 3
FIRST_SUBJECT = "alice"
REPLICAS = ("apis", "orchestrators", "persisters")


def main(arguments: list[str]) -> int:
    """Do what the arguments ask for: the exit code."""
    asked = parser().parse_args(arguments)
    try:
        return asked.act(asked, load_settings())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
    except ClusterError as error:
        complain(error)
    except PermissionError as error:
        sys.stderr.write(f"{error.filename}: not allowed; did another user start the cluster?\n")
    except KeyboardInterrupt:
        say()
    return 1


def parser() -> argparse.ArgumentParser:
    """Every command with its options; `act` is what carries it out."""
    top = argparse.ArgumentParser(prog="python -m infra.local", description="A local Headwater.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, act, text in (
        ("up", up, "start everything in the background and wait until it is ready"),
        ("supervise", supervise, "the same in the foreground, until SIGTERM or Ctrl-C"),
    ):
        command = commands.add_parser(name, help=text)
        for replicas in REPLICAS:
            command.add_argument(f"--{replicas}", type=int, default=1, metavar="N")
        command.set_defaults(act=act)
    commands.add_parser("down", help="stop everything; the data stay").set_defaults(act=down)
    commands.add_parser("status", help="show each part").set_defaults(act=status)
    logs = commands.add_parser("logs", help="show the logs")
    logs.add_argument("part", nargs="?", help="a part, or all of a kind; default: every part")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as lines are added")
    logs.set_defaults(act=show_logs)
    token = commands.add_parser("token", help="print a token, good for 24 hours")
    token.add_argument("--sub", default=FIRST_SUBJECT, help="the user it is for")
    token.set_defaults(act=print_token)
    run = commands.add_parser("run", help="run a command with the cluster's settings")
    run.add_argument("command", nargs=argparse.REMAINDER)
    run.set_defaults(act=run_command)
    return top


def up(asked: argparse.Namespace, settings: Settings) -> int:
    replicas = [f"--{name}={getattr(asked, name)}" for name in REPLICAS]
    command = [sys.executable, "-m", "infra.local", "supervise", *replicas]
    running, already = daemon.up(settings.data_dir.absolute(), command, say_ready)
    say_up(running.url, _token(running, FIRST_SUBJECT), already=already)
    return 0


def supervise(asked: argparse.Namespace, settings: Settings) -> int:
    counts = {name: getattr(asked, name) for name in REPLICAS}
    return daemon.supervise(Plan.from_settings(settings, **counts))


def down(_: argparse.Namespace, settings: Settings) -> int:
    was_up = daemon.down(settings.data_dir.absolute())
    say("Headwater is down; its data stay" if was_up else "Headwater was not up")
    return 0


def status(_: argparse.Namespace, settings: Settings) -> int:
    running = load_running(settings.data_dir.absolute())
    if running is None or running.failure is not None:
        say("Headwater is not up")
        return EXIT_NOT_UP
    parts = observe(running, settings)
    supervised = running.supervisor.alive()
    say_status(parts, supervised=supervised)
    well = all(part.state in (PartState.READY, PartState.DONE) for part in parts)
    return 0 if well and supervised else EXIT_NOT_UP


def show_logs(asked: argparse.Namespace, settings: Settings) -> int:
    folder = settings.data_dir.absolute() / "logs"
    paths = sorted(folder.glob("*.log"))
    if asked.part is not None:
        paths = [path for path in paths if asked.part in (path.stem, path.stem.rpartition("-")[0])]
    if not paths:
        raise ClusterError(f"no log of {asked.part or 'any part'} in {folder}")
    for path in paths:
        for line in last_lines(path, LOG_LINES):
            say(line if len(paths) == 1 else f"{path.stem} | {line}")
    if asked.follow:
        follow(paths, say)
    return 0


def print_token(asked: argparse.Namespace, settings: Settings) -> int:
    say(_token(joinable(settings), asked.sub))
    return 0


def run_command(asked: argparse.Namespace, settings: Settings) -> int:
    command = asked.command[1:] if asked.command[:1] == ["--"] else asked.command
    if not command:
        raise ClusterError("run: which command? `run -- COMMAND …`")
    env = {**os.environ, **joinable(settings).env}
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        raise ClusterError(f"{command[0]}: {error.strerror}") from None


def joinable(settings: Settings) -> Running:
    """The cluster that runs. Raises ClusterError when none does."""
    running = load_running(settings.data_dir.absolute())
    if running is None or not running.supervisor.alive():
        raise ClusterError("Headwater is not up: `make up` starts it")
    return running


def _token(running: Running, subject: str) -> str:
    return make_token(running.env["HEADWATER_AUTH_SECRET"], subject)


if __name__ == "__main__":
    # `… | head`: a reader that has had enough ends this command, and not the cluster.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
