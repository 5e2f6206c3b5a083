"""Files: what comes in goes out to the letter, with thumbnail and text, and to nobody else."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from PIL import Image

from shared.archive import Archive
from shared.passages import find_passages
from shared.postgres import create_engine
from shared.settings import Settings
from tests.integration.api.gateways import Client, Running
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.socket_client import socket_of
from tests.integration.api.uploading import add, send, thread
from tests.integration.api.worker import Worker
from tests.support.sample_files import bomb, pdf, picture

TEXT = b"The river rises in the hills.\n\nIt meets the sea at noon."
KEY = {"Idempotency-Key": "k"}
AT_ONCE = 16


@pytest.fixture
async def archive(settings: Settings) -> AsyncGenerator[Archive]:
    engine = create_engine(settings.required("database_url"), application="test")
    yield Archive(engine)
    await engine.dispose()


async def types_in(worker: Worker, thread_id: str) -> list[str]:
    return [record.type for record in await worker.records(thread_id)]


@pytest.mark.parametrize("content", [TEXT, picture("JPEG"), picture("GIF"), pdf(["hi"])])
async def test_what_comes_in_goes_out(client: Client, content: bytes) -> None:
    added = await add(client, content)
    got = await client.get(added["file_url"])
    assert (got.status_code, got.content) == (200, content)
    assert added["file_info"]["size"] == len(content) == int(got.headers["content-length"])


async def test_a_file_of_many_parts_is_whole(client: Client) -> None:
    content = b"\n".join(b"%d" % number for number in range(1_100_000))
    assert len(content) > 7 * 2**20
    assert (await client.get((await add(client, content))["file_url"])).content == content


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
async def test_an_image_has_a_thumbnail(client: Client, kind: str) -> None:
    added = await add(client, picture(kind), "holiday")
    assert added["file_info"]["type"] == f"image/{kind.lower()}"
    small = await client.get(added["thumbnail_url"])
    assert small.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(small.content)).size == (320, 240)


async def test_a_pdf_shows_its_first_page(client: Client) -> None:
    added = await add(client, pdf(["first", "second"]), "report.txt")
    assert added["file_info"] == {"name": "report.txt", "type": "application/pdf", "size": 839}
    small = await client.get(added["thumbnail_url"])
    assert Image.open(io.BytesIO(small.content)).size == (320, 107)


async def test_a_message_has_the_file_attached(
    client: Client, worker: Worker, settings: Settings
) -> None:
    place = await thread(client)
    path = f"/v1/threads/{place}/messages"
    added = (await send(client, place, TEXT, message="What is it?")).json()
    posted, shown = added.pop("message"), {**added}
    attempt = await worker.begin(posted["job_id"])
    assert attempt.command.content == "What is it?"
    assert [a.model_dump() for a in attempt.command.attachments] == [
        {"file_id": added["file_id"], "name": "a.txt", "type": "text/plain"}
        | {"size": len(TEXT), "has_thumbnail": False}
    ]
    await attempt.end()
    more: dict[str, Any] = {"content": "And now?", "attachments": [added["file_id"]]}
    await worker.answer((await client.ok("POST", path, json=more))["job_id"])
    more = {"query": "And then?", "thread_id": place, "attachments": [added["file_id"]]}
    await worker.answer((await client.ok("POST", "/v1/jobs", json=more))["job_id"])

    async def attached() -> list[Any]:
        items = (await client.ok("GET", path))["items"]
        return [item["attachments"] for item in items if item["role"] == "user"]

    assert await attached() == [[shown]] * 3
    await archive_all(settings, worker.redis)
    await let_go(worker, place)
    assert await attached() == [[shown]] * 3
    assert (await client.get(added["file_url"])).content == TEXT


async def test_a_socket_asks_about_a_file(client: Client, worker: Worker) -> None:
    place = await thread(client)
    added = (await send(client, place, TEXT)).json()["file_id"]
    elsewhere = (await add(client, TEXT))["file_id"]
    async with socket_of(client, place) as socket:
        await socket.send("file", file_id=elsewhere, message="What is it?", id="1")
        assert (await socket.until("error"))["code"] == "not_found"
        await socket.send("file", file_id=added, message="What is it?", id="2")
        await socket.send("message", content="And now?", attachments=[added], id="3")
        accepted = [await socket.until("accepted") for _ in range(2)]
    for asked, content in zip(accepted, ("What is it?", "And now?"), strict=True):
        attempt = await worker.begin(asked["job_id"])
        assert attempt.command.content == content
        assert [each.file_id for each in attempt.command.attachments] == [added]
        await attempt.end()


async def test_asked_again_a_question_keeps_its_files(client: Client, worker: Worker) -> None:
    place = await thread(client)
    added = (await send(client, place, TEXT, message="What is it?")).json()
    await worker.answer(added["message"]["job_id"])
    again = {"replaces": added["message"]["message_id"]}
    posted = await client.ok("POST", f"/v1/threads/{place}/messages", json=again)
    command = (await worker.begin(posted["job_id"])).command
    assert [each.file_id for each in command.attachments] == [added["file_id"]]


async def test_a_message_takes_files_of_its_thread_only(
    gateway: Running, client: Client, user: str
) -> None:
    place, other = await thread(client), (await add(client, TEXT))["file_id"]
    async with gateway.client(f"{user}-stranger") as stranger:
        theirs = (await add(stranger, TEXT))["file_id"]
    path = f"/v1/threads/{place}/messages"
    for file_id in (other, theirs, theirs[:-4] + "0000", "file_1", ""):
        body = {"content": "hi", "attachments": [file_id]}
        assert await client.problem("POST", path, json=body) == (404, "not_found")
        asked = {"query": "hi", "attachments": [file_id]}
        assert await client.problem("POST", "/v1/jobs", json=asked) == (404, "not_found")
    for wrong in (["x"] * 17, "x", [1]):
        body = {"content": "hi", "attachments": wrong}
        assert await client.problem("POST", path, json=body) == (400, "invalid_request")
    assert (await client.ok("GET", path))["items"] == []


@pytest.mark.parametrize("is_archived", [False, True])
async def test_who_takes_part_reads_and_nobody_else(
    gateway: Running,
    client: Client,
    worker: Worker,
    settings: Settings,
    user: str,
    is_archived: bool,
) -> None:
    guest = f"{user}-guest"
    place = await thread(client)
    await client.ok("PUT", f"/v1/threads/{place}/participants/{guest}")
    added = (await send(client, place, picture())).json()
    urls = [added["file_url"], added["thumbnail_url"]]
    async with gateway.client(guest) as theirs, gateway.client(f"{user}-x") as stranger:
        theirs_too = (await send(theirs, place, TEXT)).json()["file_url"]
        if is_archived:
            await archive_all(settings, worker.redis)
            await let_go(worker, place)
        assert [(await theirs.get(url)).status_code for url in urls] == [200, 200]
        assert [(await stranger.get(url)).status_code for url in urls] == [404, 404]
        assert await theirs.problem("DELETE", urls[0]) == (403, "not_the_owner")
        assert await stranger.problem("DELETE", urls[0]) == (404, "not_found")
        await client.ok("DELETE", f"/v1/threads/{place}/participants/{guest}")
        assert [(await theirs.get(url)).status_code for url in urls] == [404, 404]
        assert (await client.get(theirs_too)).content == TEXT


@pytest.mark.parametrize("is_archived", [False, True])
async def test_a_deleted_file_is_gone(
    client: Client, worker: Worker, settings: Settings, is_archived: bool
) -> None:
    added = await add(client, picture())
    if is_archived:
        await archive_all(settings, worker.redis)
    await client.ok("DELETE", added["file_url"])
    for _ in range(2):
        for url in (added["file_url"], added["thumbnail_url"]):
            assert await client.problem("GET", url) == (404, "not_found")
        assert await client.problem("DELETE", added["file_url"]) == (404, "not_found")
        await archive_all(settings, worker.redis)


async def test_the_same_upload_is_one_file(client: Client, worker: Worker) -> None:
    place = await thread(client)
    sent = [send(client, place, TEXT, message="What?", headers=KEY) for _ in range(AT_ONCE)]
    answers = await asyncio.gather(*sent)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    told = ["thread.created", "file.added", "file.passages", "message.posted"]
    assert await types_in(worker, place) == told
    for other in (TEXT + b".", TEXT.upper()):
        refused = await send(client, place, other, message="What?", headers=KEY)
        assert refused.json()["code"] == "idempotency_mismatch"
    renamed = await send(client, place, TEXT, "b.txt", message="What?", headers=KEY)
    assert renamed.json()["code"] == "idempotency_mismatch"
    assert await types_in(worker, place) == told


async def test_passages_of_text_are_found(
    client: Client, worker: Worker, settings: Settings, archive: Archive
) -> None:
    place = await thread(client)
    pages = [f"The {name} flows past mile {n}." for n, name in enumerate(["Rhine", "Elbe"] * 20)]
    paper = (await send(client, place, pdf([*pages, "Herons nest by the weir."]), "a.pdf")).json()
    notes = ["The weir was built in 1911.", "한국어 문서입니다.", *(["Mills and locks."] * 90)]
    text = (await send(client, place, "\n\n".join(notes).encode(), "b.txt")).json()
    assert await find_passages(archive, place, "herons", limit=5) == []
    await archive_all(settings, worker.redis)
    found = await find_passages(archive, place, "Where do the herons nest?", limit=1)
    assert [(each.file_id, each.name) for each in found] == [(paper["file_id"], "a.pdf")]
    assert "Herons nest by the weir." in found[0].text
    found = await find_passages(archive, place, "weir", limit=5)
    assert {each.file_id for each in found} == {paper["file_id"], text["file_id"]}
    assert max(len(each.text) for each in found) <= 1000
    assert (await find_passages(archive, place, "한국어", limit=5))[0].number == 1
    assert await find_passages(archive, await thread(client), "weir", limit=5) == []
    assert await find_passages(archive, place, "… !", limit=5) == []
    await client.ok("DELETE", paper["file_url"])
    await archive_all(settings, worker.redis)
    found = await find_passages(archive, place, "weir", limit=5)
    assert {each.file_id for each in found} == {text["file_id"]}
    await client.ok("DELETE", f"/v1/threads/{place}")
    await archive_all(settings, worker.redis)
    assert await find_passages(archive, place, "weir", limit=5) == []


async def test_a_long_text_comes_in_events_of_bounded_size(client: Client, worker: Worker) -> None:
    place = await thread(client)
    await send(client, place, "".join(f"강물 {n}. " for n in range(60_000)).encode())
    records = [r for r in await worker.records(place) if r.type == "file.passages"]
    assert len(records) > 10
    assert max(len(record.data) for record in records) < 40 * 1024
    assert sum(len(record.data.decode()) for record in records) < 300 * 1024


async def test_what_unpacks_to_too_much_is_refused(client: Client) -> None:
    place = await thread(client)
    vast = bomb(20_000, 20_000)
    assert len(vast) < 100_000
    refused = await send(client, place, vast)
    assert (refused.status_code, refused.json()["code"]) == (413, "image_too_large")
    assert (await add(client, bomb(6000, 6000)))["thumbnail_url"]
