"""Files: what comes in goes out to the letter, with thumbnail and text, and to nobody else."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from PIL import Image

from shared.redis_client import Redis
from shared.settings import Settings
from tests.integration.api.gateways import Client
from tests.integration.api.persisting import archive_all, let_go
from tests.integration.api.worker import Worker
from tests.support.sample_files import pdf, picture

TEXT = b"The river rises in the hills.\n\nIt meets the sea at noon."


async def thread(client: Client) -> str:
    return (await client.ok("POST", "/v1/threads", json={}))["thread_id"]


async def send(
    client: Client, thread_id: str, content: bytes, name: str = "a.txt", **more: Any
) -> httpx.Response:
    path = f"/v1/threads/{thread_id}/files"
    return await client.post(path, files={"file": (name, content)}, **more)


async def add(client: Client, content: bytes, name: str = "a.txt", **more: Any) -> dict[str, Any]:
    """Upload into a new thread; the answer."""
    response = await send(client, await thread(client), content, name, **more)
    assert response.status_code == 201, response.text
    return response.json()


@pytest.mark.parametrize("content", [TEXT, picture("JPEG"), picture("GIF"), pdf(["hi"])])
async def test_what_comes_in_goes_out(client: Client, content: bytes) -> None:
    added = await add(client, content)
    got = await client.get(added["file_url"])
    assert (got.status_code, got.content) == (200, content)
    assert added["file_info"]["size"] == len(content) == int(got.headers["content-length"])


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
    client: Client, worker: Worker, settings: Settings, redis: Redis
) -> None:
    place = await thread(client)
    path = f"/v1/threads/{place}/messages"
    files = {"file": ("a.txt", TEXT), "message": (None, "What is it?")}
    added = (await client.post(f"/v1/threads/{place}/files", files=files)).json()
    posted, shown = added.pop("message"), {**added}
    attempt = await worker.begin(posted["job_id"])
    assert attempt.command.content == "What is it?"
    assert [a.model_dump() for a in attempt.command.attachments] == [
        {"file_id": added["file_id"], "name": "a.txt", "type": "text/plain"}
        | {"size": len(TEXT), "has_thumbnail": False}
    ]
    await attempt.end()
    more = {"content": "And now?", "attachments": [added["file_id"]]}
    await worker.answer((await client.ok("POST", path, json=more))["job_id"])
    more = {"query": "And then?", "thread_id": place, "attachments": [added["file_id"]]}
    await worker.answer((await client.ok("POST", "/v1/jobs", json=more))["job_id"])

    async def attached() -> list[Any]:
        items = (await client.ok("GET", path))["items"]
        return [item["attachments"] for item in items if item["role"] == "user"]

    assert await attached() == [[shown]] * 3
    await archive_all(settings, redis)
    await let_go(worker, place)
    assert await attached() == [[shown]] * 3
    assert (await client.get(added["file_url"])).content == TEXT
