"""Who may do what in Redis: `python -m infra.container.rights` writes users.acl beside this file.

A service may send the commands it sends, and those of the scripts it runs, which Redis holds to the
same rights. The latter are read from the scripts, so a script that is changed shows as a file that
is out of date: a test compares.

    @NAME@ stands for the SHA-256 of that user's password; valkey.sh puts it in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from shared.keys import (
    PartitionKeys,
    address_rate,
    jobs_of_user,
    sessions_of_user,
    sockets_of_user,
    streams_of_user,
    user_rate,
)

USERS_FILE: Final = Path(__file__).with_name("users.acl")

# Every connection looks at the run of the server it has reached (shared/restarts.py), and scripts
# are sent by their hash or as they are.
OF_EVERY_CONNECTION: Final = ("client|setinfo", "info", "hget", "hset", "hdel", "eval", "evalsha")
# Groups are made by whoever comes first (shared/deployment.py); HDEL is how readiness asks.
OF_EVERY_SERVICE: Final = (*OF_EVERY_CONNECTION, "hsetnx", "xgroup|create", "ping")
OF_A_GROUP: Final = ("xreadgroup", "xautoclaim", "xclaim", "xpending", "xack")
OF_READERS: Final = ("exists", "hgetall", "lrange", "smembers", "xrange")

_FIRST: Final = PartitionKeys(0)
_CALL: Final = re.compile(r"redis\.call\('(\w+)'(?:, '([A-Z]+)')?")
_WITH_SUBCOMMANDS: Final = ("xgroup", "xinfo")
_FUNCTION: Final = re.compile(
    r"^local function (\w+).*?(?=^local function |\Z)", re.MULTILINE | re.DOTALL
)
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class User:
    """`keys` are patterns of what it may read and write, `seen` of what it may only read."""

    name: str
    scripts: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()

    def line(self) -> str:
        """As a line of an ACL file."""
        allowed = {*self.commands, *(each for name in self.scripts for each in commands_of(name))}
        words = [
            *(f"~{key}" for key in self.keys),
            *(f"%R~{key}" for key in self.seen),
            *(f"&{channel}" for channel in self.channels),
            "-@all",
            *(f"+{command}" for command in sorted(allowed)),
        ]
        return (
            f"user {self.name} on #@{self.name.upper()}@ resetkeys resetchannels {' '.join(words)}"
        )


def users() -> tuple[User, ...]:
    """Everybody but the administrator."""
    return (_api(), _orchestrator(), _persister(), _operator())


def _api() -> User:
    return User(
        name="api",
        scripts=(
            "accept_job", "change_thread", "claim_key", "create_thread", "issue_ticket",
            "keep_presence", "keep_session", "keep_streams", "load_thread", "open_stream",
            "redeem_ticket", "request_cancel", "spend_request", "take_job",
        ),
        commands=(
            *OF_EVERY_SERVICE, *OF_READERS,
            "spublish", "ssubscribe", "sunsubscribe", "time", "xlen", "xpending",
        ),
        keys=(
            *_of_partitions(), _anywhere(_FIRST.ticket("*")),
            # The length of a user's name stands before the name.
            _anywhere(_FIRST.idempotency("*", "*")).replace(":1:", ":*:"),
            user_rate("*"), address_rate("*"), jobs_of_user("*"), streams_of_user("*"),
            sessions_of_user("*"), sockets_of_user("*"),
        ),
        seen=(_anywhere(_FIRST.dead), _anywhere(_FIRST.recall)),
        channels=_channels(),
    )  # fmt: skip


def _orchestrator() -> User:
    return User(
        name="orchestrator",
        scripts=(
            "accept_job", "append_events", "begin_attempt", "change_thread", "dead_letter",
            "load_thread", "release_lease", "renew_lease", "resume_attempt",
        ),
        commands=(*OF_EVERY_SERVICE, *OF_A_GROUP, *OF_READERS, "ssubscribe", "sunsubscribe"),
        keys=(*_of_partitions(), _anywhere(_FIRST.dead)),
        seen=(_anywhere(_FIRST.recall),),
        channels=_channels(),
    )  # fmt: skip


def _persister() -> User:
    return User(
        name="persister",
        scripts=("dead_letter", "open_partition", "report_progress", "restore_thread", "trim_log"),
        commands=(*OF_EVERY_SERVICE, *OF_A_GROUP, "hmget", "set", "xinfo|stream", "xrange"),
        keys=(*_of_partitions(), _anywhere(_FIRST.dead), _anywhere(_FIRST.recall)),
        channels=_channels(),
    )


def _operator() -> User:
    """A person at the console (infra/console): looks, and retries or drops dead letters."""
    return User(
        name="operator",
        scripts=("accept_job", "load_thread", "retry_letter"),
        commands=(
            *OF_EVERY_CONNECTION, *OF_READERS,
            "xdel", "xinfo|groups", "xlen", "xpending", "xrevrange", "xtrim",
        ),
        keys=(*_of_partitions(), _anywhere(_FIRST.dead)),
        channels=_channels(),
    )  # fmt: skip


def _of_partitions() -> tuple[str, ...]:
    """What all who take part in the log work with."""
    names = (
        _FIRST.commands, _FIRST.log, _FIRST.transitions, _FIRST.thread("*"), _FIRST.job("*"),
        _FIRST.dirty("*"), _FIRST.meta,
    )  # fmt: skip
    return tuple(map(_anywhere, names))


def _channels() -> tuple[str, ...]:
    return (_anywhere(_FIRST.thread("*")), _anywhere(_FIRST.cancels))


def _anywhere(key: str) -> str:
    """The same in every partition, as a pattern."""
    return key.replace(_FIRST.prefix, _FIRST.prefix.replace("0", "*"))


# Who has not said who it is may ask whether the server answers, for the health check. `admin` is
# for people, on the server's own machine.
FIRST_LINES: Final = (
    "user default on nopass resetkeys resetchannels -@all +ping",
    "user admin on #@ADMIN@ ~* &* +@all",
)


@cache
def _prelude() -> dict[str, str]:
    """The functions that scripts share, by name."""
    return {found[1]: found[0] for found in _FUNCTION.finditer(_lua("prelude"))}


def _lua(script: str) -> str:
    """The script, without its comments."""
    text = (files("shared") / "scripts" / f"{script}.lua").read_text()
    return "\n".join(line.partition("--")[0] for line in text.splitlines())


def commands_of(script: str) -> set[str]:
    """The commands a script may call, by itself and through the functions it shares."""
    text, known = _lua(script), set[str]()
    while called := (set(_WORD.findall(text)) & _prelude().keys()) - known:
        known |= called
        text += "".join(_prelude()[name] for name in called)
    calls = ((name.lower(), second.lower()) for name, second in _CALL.findall(text))
    return {f"{name}|{second}" if name in _WITH_SUBCOMMANDS else name for name, second in calls}


def users_file() -> str:
    """The whole ACL file, with its placeholders."""
    return "\n".join((*FIRST_LINES, *(user.line() for user in users()))) + "\n"


if __name__ == "__main__":
    USERS_FILE.write_text(users_file())
