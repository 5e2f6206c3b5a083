"""The tests can fail: every mechanism of the scripts, taken out, breaks the test that guards it."""

from __future__ import annotations

import shutil
from importlib.resources import files
from inspect import signature
from pathlib import Path

import pytest

from shared.errors import HeadwaterError
from shared.redis_client import RedisError
from tests.integration.log.conftest import Calls
from tests.integration.log.continuity_mutations import CONTINUITY, GATES
from tests.integration.log.mutations import MUTATIONS, Guard
from tests.integration.log.transition_mutations import TRANSITION_MUTATIONS
from tests.support.log_server import ChannelEar, LogServer, RepeatingRedis
from tests.support.servers import Server

pytestmark = pytest.mark.mutations

# How a test fails: what it saw is not so, it saw nothing, or the server refused the script.
FAILURES = (AssertionError, ValueError, pytest.fail.Exception, HeadwaterError, RedisError)


@pytest.fixture
async def server(
    request: pytest.FixtureRequest,
    redis: RepeatingRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> LogServer:
    """The log with one script edited."""
    edit_script(*request.param, folder=tmp_path)
    monkeypatch.setattr("shared.redis_scripts.files", lambda _: tmp_path)
    server = LogServer(redis)
    await server.prepare()
    return server


def edit_script(name: str, old: str, new: str, *, folder: Path) -> None:
    """Copy the scripts into a folder, one of them edited."""
    shutil.copytree(str(files("shared") / "scripts"), folder / "scripts")
    script = folder / "scripts" / f"{name}.lua"
    source = script.read_text()
    assert source.count(old) == 1, f"{name}.lua does not read like this once: {old}"
    script.write_text(source.replace(old, new))


@pytest.mark.parametrize(
    ("server", "guard"),
    [
        pytest.param((script, old, new), guard, id=f"{script}-{number}-{guard.__name__}")
        for script, edits in (
            *MUTATIONS.items(),
            *GATES.items(),
            *CONTINUITY.items(),
            *TRANSITION_MUTATIONS.items(),
        )
        for number, (old, new, guard) in enumerate(edits, start=1)
    ],
    indirect=["server"],
)
async def test_without_the_mechanism(
    server: LogServer,
    guard: Guard,
    redis: RepeatingRedis,
    ear: ChannelEar,
    cut_to_the_letter: int,
    calls: Calls,
    valkey_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "monkeypatch": monkeypatch,
        "valkey_server": valkey_server,
        "server": server,
        "redis": redis,
        "ear": ear,
        "calls": calls,
        "cut_to_the_letter": cut_to_the_letter,
        "on_busy": "enqueue",
        "repeats": True,
    }
    wanted = {name: given[name] for name in signature(guard).parameters}
    with pytest.raises(FAILURES):
        await guard(**wanted)
