"""Several people on several devices in one thread, on two gateways: who is there, and who types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from services.api import presence as attendances
from services.api import typing_notices
from shared import presence
from shared.presence import Attendance, Member, Presence
from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import PARTITIONS, Client, Running
from tests.integration.api.limited import gateways
from tests.integration.api.socket_client import Frame, Socket, socket_of
from tests.integration.api.test_sockets import ask, new_thread
from tests.integration.api.waiting import eventually
from tests.integration.api.worker import Worker


@pytest.fixture(scope="module", autouse=True)
def quick() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attendances, "ROUND_SECONDS", 0.02)
        patch.setattr(attendances, "RENEW_SECONDS", 0.1)
        patch.setattr(attendances, "LEAVING_SECONDS", 0.2)
        patch.setattr(presence, "LEAVING_SECONDS", 0.2)
        patch.setattr(presence, "PRESENCE_SECONDS", 2.0)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(settings: Settings) -> AsyncGenerator[list[Running]]:
    async with gateways(settings, 2) as running:
        yield running


class Meeting(NamedTuple):
    """A thread of alice's, in which bob is; each on a gateway of their own."""

    thread_id: str
    alice: Client
    bob: Client

    def socket(self, client: Client, session: str) -> Socket:
        return socket_of(client, self.thread_id, session=session)


@pytest_asyncio.fixture(loop_scope="module")
async def meeting(two: list[Running], user: str) -> AsyncGenerator[Meeting]:
    async with two[0].client(f"alice-{user}") as alice, two[1].client(f"bob-{user}") as bob:
        thread_id = await new_thread(alice)
        await alice.ok("PUT", f"/v1/threads/{thread_id}/participants/bob-{user}")
        yield Meeting(thread_id, alice, bob)


def comes(user: str) -> Any:
    return lambda frame: frame.get("event") == "user_joined" and frame["user"] == user


def goes(user: str) -> Any:
    return lambda frame: frame.get("event") == "user_left" and frame["user"] == user


def news(socket: Socket) -> list[Frame]:
    """What came of people, but for who comes and goes oneself."""
    return [frame for frame in socket.frames if frame["type"] in ("typing", "system")]


async def present(client: Client, thread_id: str) -> dict[str, list[str]]:
    page = await client.ok("GET", f"/v1/threads/{thread_id}/presence")
    return {item["user"]: item["session_ids"] for item in page["items"]}


async def test_people_come_and_go_with_their_first_and_last_device(
    meeting: Meeting, user: str
) -> None:
    bob = f"bob-{user}"
    async with meeting.socket(meeting.alice, "desk") as mine:
        assert (await mine.until("system"))["users"] == [f"alice-{user}"]
        async with meeting.socket(meeting.bob, "phone") as phone:
            welcome = await phone.until("system")
            assert welcome["users"] == [f"alice-{user}", bob]
            await mine.until(comes(bob))
            async with meeting.socket(meeting.bob, "laptop") as laptop:
                await laptop.until("system")
                found = await present(meeting.alice, meeting.thread_id)
                assert found == {f"alice-{user}": ["desk"], bob: ["laptop", "phone"]}
        await mine.until(goes(bob))
        assert [f["event"] for f in news(mine) if f.get("user") == bob] == [
            "user_joined",
            "user_left",
        ]


async def test_who_comes_back_at_once_was_not_away(
    meeting: Meeting, two: list[Running], user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "LEAVING_SECONDS", 1.5)
    monkeypatch.setattr(attendances, "LEAVING_SECONDS", 1.5)
    bob = f"bob-{user}"
    async with meeting.socket(meeting.alice, "desk") as mine:
        await mine.until("system")
        for _ in range(3):
            async with meeting.socket(meeting.bob, "phone") as phone:
                await phone.until("system")
                phone.connection.transport.abort()
            looked = two[1].gateway.company.attendances._look_again
            await eventually(lambda looked=looked: meeting.thread_id in looked)  # told to Redis
        await mine.send("ping")
        await mine.until("pong")
        assert [f["event"] for f in news(mine) if f.get("user") == bob] == ["user_joined"]
        await mine.until(goes(bob))


async def test_a_killed_gateway_leaves_no_ghosts(meeting: Meeting, user: str, redis: Redis) -> None:
    """Its leases run out, and whoever renews next tells so."""
    async with meeting.socket(meeting.alice, "desk") as mine:
        await mine.until("system")
        ghost = Member('gh/ost "한"', "phone", "of a killed gateway")
        await Presence(redis, PARTITIONS).keep(Attendance(meeting.thread_id, [ghost]))
        await mine.until(comes(ghost.user))
        assert ghost.user in await present(meeting.alice, meeting.thread_id)
        await mine.until(goes(ghost.user))
        assert list(await present(meeting.alice, meeting.thread_id)) == [f"alice-{user}"]


async def test_who_is_there_stays_for_as_long_as_the_socket_does(
    meeting: Meeting, user: str, redis: Redis
) -> None:
    keys = Presence(redis, PARTITIONS)._keys(meeting.thread_id)  # pyright: ignore[reportPrivateUsage]
    async with meeting.socket(meeting.alice, "desk") as mine:
        await mine.until("system")
        await redis.delete(keys.present(meeting.thread_id))  # a Redis that forgot
        await mine.until(comes(f"alice-{user}"))
        first = await redis.pexpiretime(keys.present(meeting.thread_id))

        async def is_renewed() -> bool:
            return await redis.pexpiretime(keys.present(meeting.thread_id)) > first

        await eventually(is_renewed)

    async def is_gone() -> bool:
        return not await redis.exists(keys.present(meeting.thread_id))

    await eventually(is_gone)


async def test_typing_is_told_to_all_others(
    meeting: Meeting, user: str, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        meeting.socket(meeting.alice, "desk") as desk,
        meeting.socket(meeting.alice, "phone") as phone,
        meeting.socket(meeting.bob, "laptop") as theirs,
    ):
        for socket in (desk, phone, theirs):
            await socket.until("system")
        await desk.send("typing", is_typing=True)
        await desk.send("typing", is_typing=True)  # too soon to be told again
        expected = {
            "type": "typing",
            "user": f"alice-{user}",
            "session_id": "desk",
            "is_typing": True,
        }
        assert await phone.until("typing") == expected
        assert await theirs.until("typing") == expected
        await desk.send("ping")
        await desk.until("pong")  # what it would have been told itself came before
        desk.connection.transport.abort()
        assert await theirs.until("typing") == {**expected, "is_typing": False}
        await theirs.send("typing", is_typing=True)
        assert (await phone.until(_of_bob))["session_id"] == "laptop"
        monkeypatch.setattr(typing_notices, "REPEAT_SECONDS", 0)
        await theirs.send("typing", is_typing=True)
        await phone.until(_of_bob)
    assert not [frame for frame in desk.frames if frame["type"] == "typing"]
    records = await worker.records(meeting.thread_id)
    assert [r.type for r in records] == ["thread.created", "participant.joined"], "nothing is kept"


def _of_bob(frame: Frame) -> bool:
    return frame["type"] == "typing" and frame["user"].startswith("bob-")


async def test_each_device_cancels_what_it_asked(
    meeting: Meeting, user: str, worker: Worker
) -> None:
    cancel = f"/v1/threads/{meeting.thread_id}/cancel"
    async with (
        meeting.socket(meeting.alice, "desk") as desk,
        meeting.socket(meeting.alice, "phone") as phone,
        meeting.socket(meeting.bob, "desk") as theirs,
    ):
        asked = [await ask(socket, name) for socket, name in
                 ((desk, "a"), (phone, "b"), (theirs, "c"), (desk, "d"))]  # fmt: skip
        jobs = [accepted["job_id"] for accepted in asked]
        attempt = await worker.begin(jobs[0])
        await desk.send("cancel", id="mine")
        accepted = await desk.until("accepted")
        assert accepted["jobs"] == [
            {"job_id": jobs[0], "status": "running"},
            {"job_id": jobs[3], "status": "cancelled"},
        ]
        await attempt.end("cancelled")
        ended = [await theirs.until("stream_end") for _ in range(2)]
        assert [(end["job_id"], end["status"]) for end in ended] == [
            (jobs[3], "cancelled"),
            (jobs[0], "cancelled"),
        ]
        phone_of_bob = {"X-Session-Id": "phone"}
        assert await meeting.bob.ok("POST", cancel, headers=phone_of_bob) == {"items": []}
        assert await meeting.alice.ok("POST", cancel) == {"items": []}, "asked from no device"
        cancelled = await meeting.alice.ok("POST", cancel, headers={"X-Session-Id": "phone"})
        assert [job["job_id"] for job in cancelled["items"]] == [jobs[1]]
        left = await meeting.bob.ok("GET", f"/v1/jobs/{jobs[2]}")
        assert left["status"] == "queued"


async def test_what_was_asked_from_no_device_is_cancelled_from_none(
    meeting: Meeting, worker: Worker
) -> None:
    path = f"/v1/threads/{meeting.thread_id}"
    job = await meeting.alice.ok("POST", f"{path}/messages", json={"content": "hi"})
    assert await meeting.bob.ok("POST", f"{path}/cancel") == {"items": []}
    cancelled = await meeting.alice.ok("POST", f"{path}/cancel")
    assert cancelled == {"items": [{"job_id": job["job_id"], "status": "cancelled"}]}
    async with meeting.socket(meeting.alice, "desk") as desk:
        end = await desk.until("stream_end")
        assert end["job_id"] == job["job_id"]


async def test_strangers_see_nobody(meeting: Meeting, two: list[Running]) -> None:
    async with two[0].client("a-stranger") as stranger:
        for method, action in (("GET", "presence"), ("POST", "cancel")):
            path = f"/v1/threads/{meeting.thread_id}/{action}"
            assert await stranger.problem(method, path) == (404, "not_found")


async def test_who_opens_at_once_meets_everybody(two: list[Running], user: str) -> None:
    """Whoever comes: each is in the other's welcome, or told of behind it."""
    async with two[0].client(f"alice-{user}") as alice:
        thread_id = await new_thread(alice)
        names = [f"guest-{number}-{user}" for number in range(6)]
        for name in names:
            await alice.ok("PUT", f"/v1/threads/{thread_id}/participants/{name}")
    people = [two[number % 2].client(name) for number, name in enumerate(names)]
    opened = [socket_of(person, thread_id) for person in people]
    try:
        await asyncio.gather(*(socket.__aenter__() for socket in opened))
        met = await asyncio.gather(*(_met(socket, names) for socket in opened))
    finally:
        for socket, person in zip(opened, people, strict=True):
            await socket.__aexit__(None, None, None)
            await person.aclose()
    assert met == [set(names)] * len(names)


async def _met(socket: Socket, names: list[str]) -> set[str]:
    known = set((await socket.until("system"))["users"])
    while known != set(names):
        known.add((await socket.until("system"))["user"])
    return known


async def test_devices_are_known_for_two_hours(meeting: Meeting, user: str, redis: Redis) -> None:
    async def names(client: Client) -> list[str]:
        return [item["session_id"] for item in (await client.ok("GET", "/v1/sessions"))["items"]]

    assert await names(meeting.alice) == []
    for name in ("old", "tablet", "desk"):
        await meeting.alice.ok("GET", "/v1/threads", headers={"X-Session-Id": name})
    async with meeting.socket(meeting.alice, "phone") as socket:
        await socket.until("system")
    key = f"hw:sessions:alice-{user}"
    await redis.zincrby(key, -2 * 3600 * 1000, "old")
    assert await names(meeting.alice) == ["phone", "desk", "tablet"]
    assert 0 < await redis.ttl(key) <= 2 * 3600
    assert await names(meeting.bob) == []
