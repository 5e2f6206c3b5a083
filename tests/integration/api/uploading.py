"""Uploads, as a client makes them."""

from __future__ import annotations

from typing import Any

import httpx

from tests.integration.api.gateways import Client


async def thread(client: Client) -> str:
    return (await client.ok("POST", "/v1/threads", json={}))["thread_id"]


async def send(
    client: Client,
    thread_id: str,
    content: bytes,
    name: str = "a.txt",
    *,
    message: str | None = None,
    **more: Any,
) -> httpx.Response:
    files: dict[str, Any] = {"file": (name, content)}
    if message is not None:
        files["message"] = (None, message)
    return await client.post(f"/v1/threads/{thread_id}/files", files=files, **more)


async def add(client: Client, content: bytes, name: str = "a.txt") -> dict[str, Any]:
    """Upload into a new thread; the answer."""
    response = await send(client, await thread(client), content, name)
    assert response.status_code == 201, response.text
    return response.json()
