"""The console against a gateway that breaks off in every way there is."""

from __future__ import annotations

import asyncio
import signal
import time

import jwt
import pytest

from shared.redis_client import Redis
from tests.integration.console.conftest import SECRET
from tests.integration.console.program import RUN_SECONDS_MAX, Program
from tests.integration.persister.running import eventually, is_consumed, running, settings_for
from tests.integration.persister.writer import USER, Writer
from tests.support.scripted_gateway import (
    Answer,
    ScriptedGateway,
    done,
    scripted_gateway,
    started,
    token,
)

ANSWER = (started(), token(2, "Once "), token(3, "upon\n"), token(4, "a time"), done(5))
SHOWN = ["── attempt 1 · a · m ──", "Once upon", "a time", "■ done · stop · 0.04 s · 5 events"]
RECONNECT = b"event: reconnect\nretry: 20\ndata: {}\n\n"


def claims(gateway: ScriptedGateway) -> list[str]:
    """Whom each request's token speaks for."""
    decoded = [jwt.decode(asked.token, SECRET, algorithms=["HS256"]) for asked in gateway.asked]
    return [claim["sub"] for claim in decoded]


async def test_tail_shows_a_job_of_any_user(program: Program, job_id: str) -> None:
    async with scripted_gateway(Answer(ANSWER)) as gateway:
        ran = await program.run("tail", job_id, port=gateway.port)
    assert (ran.code, ran.errors) == (0, "")
    head, *rest = ran.output.splitlines()
    assert head.startswith(f"{job_id} of {USER} in thr_")
    assert rest == SHOWN
    assert claims(gateway) == [USER]
    assert [(asked.path, asked.cursor) for asked in gateway.asked] == [
        (f"/v1/jobs/{job_id}/events", None)
    ]


@pytest.mark.parametrize(
    "broken",
    [
        Answer(ANSWER[:3], "closed"),
        Answer(ANSWER[:3], "reset"),
        Answer([*ANSWER[:3], ANSWER[3][:20]], "closed"),
        Answer([*ANSWER[:3], RECONNECT], "open"),
        Answer([*ANSWER[:3], done(5)], "open"),  # a hole: seq 4 is missing
        Answer([*ANSWER[:3], b"id: 4\ndata: []\n\n"], "open"),
    ],
    ids=["closed", "reset", "in a frame", "reconnect", "hole", "no event"],
)
async def test_tail_goes_on_where_it_was_cut(program: Program, job_id: str, broken: Answer) -> None:
    rest = Answer([token(3, "twice"), *ANSWER[3:]])
    async with scripted_gateway(broken, rest) as gateway:
        ran = await program.run("tail", job_id, port=gateway.port)
    assert ran.code == 0
    assert [asked.cursor for asked in gateway.asked] == [None, "3"]
    lines = ran.output.splitlines()[1:]
    notices = [line for line in lines if line.startswith(("⇢", "⇠"))]
    assert [line for line in lines if line not in notices] == SHOWN
    assert [notice[0] for notice in notices] == ["⇢", "⇠"]
    assert all("after seq 3" in notice for notice in notices)


async def test_tail_waits_for_a_gateway_that_is_not_there_yet(
    program: Program, job_id: str
) -> None:
    unwell = Answer(status=503, problem="log_unavailable")
    async with scripted_gateway(unwell, unwell, Answer(ANSWER)) as gateway:
        ran = await program.run("tail", job_id, port=gateway.port)
    assert ran.code == 0
    assert len(gateway.asked) == 3
    assert ran.output.count("the gateway answers 503 after seq 0") == 2


async def test_refusal_is_told_and_not_repeated(program: Program, job_id: str) -> None:
    refusal = Answer(status=401, problem="unauthorized")
    async with scripted_gateway(refusal) as gateway:
        ran = await program.run("tail", job_id, port=gateway.port)
    assert ran.code == 1
    assert "401" in ran.errors
    assert "unauthorized: Because." in ran.errors
    assert len(gateway.asked) == 1


async def test_job_that_only_the_archive_knows(
    program: Program, writer: Writer, redis: Redis, redis_url: str, database_url: str
) -> None:
    job_id = (await writer.chat()).job_id
    async with running(settings_for(redis_url, database_url, name="p")):
        await eventually(lambda: is_consumed(redis))
    await redis.flushall()
    async with scripted_gateway(Answer(ANSWER)) as gateway:
        ran = await program.run("tail", job_id, port=gateway.port)
    assert (ran.code, claims(gateway)) == (0, [USER])


@pytest.mark.parametrize(
    ("job", "message"),
    [("job_00" + "0" * 32, "there is no job job_000"), ("yesterday", "'yesterday' is no job id")],
)
async def test_unknown_job_is_told_clearly(program: Program, job: str, message: str) -> None:
    ran = await program.run("tail", job)
    assert (ran.code, ran.output) == (1, "")
    assert ran.errors.startswith(message)
    assert ran.errors.count("\n") == 1


async def test_replay_keeps_the_pace_of_the_job(program: Program, job_id: str) -> None:
    times = [f"2026-01-02T03:04:{second:06.3f}Z" for second in (0.0, 0.8, 1.6)]
    events = [started(at=times[0]), token(2, "slow\n", at=times[1]), done(3, at=times[2])]
    async with scripted_gateway(Answer(events, "open")) as gateway:
        process = await program.begin("replay", job_id, "--speed", "2", "-", port=gateway.port)
        assert process.stdout is not None
        seen: list[float] = []
        async with asyncio.timeout(RUN_SECONDS_MAX):
            while await process.stdout.readline():
                seen.append(time.monotonic())
            assert await process.wait() == 0
    _, first, second, third = seen
    assert second - first > 0.3
    assert third - second > 0.3


@pytest.mark.parametrize("arguments", [("tail",), ("replay", "--speed", "1000")])
async def test_pipe_gets_plain_text(
    program: Program, job_id: str, arguments: tuple[str, ...]
) -> None:
    async with scripted_gateway(Answer(ANSWER)) as gateway:
        ran = await program.run(*arguments, job_id, "-", port=gateway.port)
    assert ran.code == 0
    assert "\x1b" not in ran.output


async def test_interrupt_ends_it_quietly(program: Program, job_id: str) -> None:
    async with scripted_gateway(Answer([started(), token(2, "half\n")], "open")) as gateway:
        process = await program.begin("tail", job_id, port=gateway.port)
        assert process.stdout is not None
        async with asyncio.timeout(RUN_SECONDS_MAX):
            while b"half" not in await process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (130, b"", b"")
