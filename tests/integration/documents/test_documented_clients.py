"""The clients that docs/protocol.md prints, against a gateway that breaks off in every way."""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.error
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.style.documents import PROTOCOL, fences
from tests.support.scripted_gateway import (
    Answer,
    ScriptedGateway,
    done,
    scripted_gateway,
    started,
    token,
)

RUN_SECONDS_MAX = 30.0
SNIPPET_LINES_MAX = 24
TYPES = ["started", "token", "token", "token", "done"]
ANSWER = (started(), token(2, "a"), token(3, "b"), token(4, "c"), done(5))
RECONNECT = b"event: reconnect\nretry: 20\ndata: {}\n\n"
BREAKS = {
    "whole": [Answer(ANSWER)],
    "closed": [Answer(ANSWER[:3]), Answer(ANSWER[3:])],
    "reset": [Answer(ANSWER[:3], "reset"), Answer(ANSWER[3:])],
    "in a frame": [Answer([*ANSWER[:3], ANSWER[3][:30]]), Answer(ANSWER[3:])],
    "reconnect": [Answer([*ANSWER[:3], RECONNECT]), Answer(ANSWER[3:])],
    "unwell": [Answer(status=503, problem="log_unavailable"), Answer(ANSWER)],
    "repeated": [Answer([*ANSWER[:3], *ANSWER[1:]])],
}
broken_off = pytest.mark.parametrize("answers", BREAKS.values(), ids=BREAKS)

HARNESS = """
for await (const event of follow(process.argv[2], "t")) console.log(JSON.stringify(event));
"""


def snippet(language: str) -> str:
    (found,) = (f.body for f in fences(PROTOCOL) if f.language == language)
    return found


def python_client() -> Callable[[str, str], Iterator[dict[str, Any]]]:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "docs/protocol.md", "exec"), names)
    return names["follow"]


def url_of(gateway: ScriptedGateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/v1/jobs/job_1/events"


async def with_python(gateway: ScriptedGateway) -> list[dict[str, Any]]:
    follow = python_client()
    async with asyncio.timeout(RUN_SECONDS_MAX):
        return await asyncio.to_thread(lambda: list(follow(url_of(gateway), "t")))


async def with_node(gateway: ScriptedGateway) -> list[dict[str, Any]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here")
    process = await asyncio.create_subprocess_exec(
        *(node, "--input-type=module", "-", url_of(gateway)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(RUN_SECONDS_MAX):
        output, _ = await process.communicate((snippet("javascript") + HARNESS).encode())
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("client", [with_python, with_node], ids=["python", "javascript"])
@broken_off
async def test_client_gives_every_event_once(client: Any, answers: list[Answer]) -> None:
    async with scripted_gateway(*answers) as gateway:
        events = await client(gateway)
    assert [event["type"] for event in events] == TYPES
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    cursors = [asked.cursor for asked in gateway.asked]
    assert cursors == (["0"] if len(answers) == 1 else ["0", cursors[-1]])
    assert {asked.token for asked in gateway.asked} == {"t"}


async def test_python_client_does_not_insist_on_what_is_refused() -> None:
    async with scripted_gateway(Answer(status=404, problem="not_found")) as gateway:
        with pytest.raises(urllib.error.HTTPError) as refused:
            await with_python(gateway)
    refused.value.close()
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_clients_are_short_enough_to_copy(language: str) -> None:
    assert len(snippet(language).splitlines()) <= SNIPPET_LINES_MAX
