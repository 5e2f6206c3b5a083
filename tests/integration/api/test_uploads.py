"""Uploads that are too large, broken, hostile, many, or cut off by the end of their gateway."""

from __future__ import annotations

import ast
import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from services.api import inspection, inspector
from shared.settings import Settings
from tests.integration.api.gateways import Client, problem_of, running_gateway, token_for
from tests.integration.api.processes import process_of, ready
from tests.integration.api.uploading import add, send, thread
from tests.integration.api.waiting import soon
from tests.integration.api.worker import Worker
from tests.support.sample_files import pdf, picture

TEXT = b"some text"
MIB = 1024 * 1024
NOISE = random.Random(1).randbytes(500)  # some other noise is an image of many pixels
LARGE_BYTES = 40 * MIB
LARGE_AT_ONCE = 5
GROWTH_BYTES_MAX = 100 * MIB  # of what would be 200 MiB
FOREVER = "signal.pause()"
SAYS = "inspector.say(thumbnail='AAAA')"
OPEN_MAX = 8  # files of a child: its input and output, what it reads, and little of Python's own
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def part(name: str, content: bytes = TEXT, more: str = '; filename="a"') -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x--\r\n",
        part("message"),
        part("file"),  # and no end
        part("file", b"") + b"--x--\r\n",
        part("file") + part("file") + b"--x--\r\n",
        part("file") + part("other") + b"--x--\r\n",
        part("file") + part("message", b"\xff", "") + b"--x--\r\n",
        part("file") + part("message", b"", "") + b"--x--\r\n",
        part("file") + part("message", b"a\0", "") + b"--x--\r\n",
        part("file") + part("message", b"m" * 70_000, "") + b"--x--\r\n",
        part("file") + part("message", b"m" * 300_000, "") + b"--x--\r\n",
        b"junk" * 100_000,
        part("file", more=f'; filename="{"n" * 5000}"') + b"--x--\r\n",
        b"--x\r\n\r\n" + TEXT + b"\r\n--x--\r\n",
    ],
    ids=range(15),
)
async def test_a_body_that_is_no_form_of_ours(client: Client, worker: Worker, body: bytes) -> None:
    place = await thread(client)
    path = f"/v1/threads/{place}/files"
    refused = await client.problem("POST", path, content=body, headers=FORM)
    assert refused == (400, "invalid_request")
    assert [record.type for record in await worker.records(place)] == ["thread.created"]


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", ""]
)
async def test_another_media_type(client: Client, kind: str) -> None:
    path = f"/v1/threads/{await thread(client)}/files"
    body, headers = part("file") + b"--x--\r\n", {"Content-Type": kind}
    refused = await client.problem("POST", path, content=body, headers=headers)
    assert refused == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content", [b"MZ\x90\0" + b"\0" * 600, b"PK\x03\x04" + b"\0" * 99, b"\xff\xfe"]
)
async def test_a_type_that_is_not_taken(client: Client, content: bytes) -> None:
    refused = await send(client, await thread(client), content, "innocent.txt")
    assert problem_of(refused) == (415, "file_type_refused")


async def test_types_and_sizes_are_settings(settings: Settings, user: str) -> None:
    narrow = settings.model_copy(update={"file_types": ("text/plain",), "file_bytes_max": 1000})
    async with running_gateway(narrow) as running, running.client(user) as client:
        place = await thread(client)
        assert problem_of(await send(client, place, picture())) == (413, "file_too_large")
        tiny = picture(size=(8, 8))
        assert problem_of(await send(client, place, tiny)) == (415, "file_type_refused")
        assert (await send(client, place, b"x" * 1000)).status_code == 201
        assert problem_of(await send(client, place, b"x" * 1001)) == (413, "file_too_large")
        path = f"/v1/threads/{place}/files"
        endless = await client.post(path, content=_endless(), headers=FORM)
        assert problem_of(endless) == (413, "file_too_large")


async def _endless() -> AsyncIterator[bytes]:
    """Of no length that anybody has been told."""
    yield part("file", b"")[:-2]
    for _ in range(100):
        yield b"x" * 10_000


@pytest.mark.parametrize(
    "content",
    [
        picture("PNG")[:2000],
        picture("JPEG")[:2000],
        picture("PNG")[:30],
        b"GIF89a\x10\0\x10\0" + NOISE,
        pdf(["hi"])[:300],
        b"%PDF-1.7" + NOISE,
    ],
    ids=["png", "jpeg", "header", "gif", "pdf", "noise"],
)
async def test_a_broken_file_is_a_file(client: Client, content: bytes) -> None:
    added = await add(client, content)
    assert (await client.get(added["file_url"])).content == content


async def test_who_looks_for_too_long_is_stopped(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = tmp_path / "pid"
    stuck = _inspector(tmp_path, f"open({str(told)!r}, 'w').write(str(os.getpid())); {FOREVER}")
    monkeypatch.setattr(inspector, "__file__", str(stuck))
    monkeypatch.setattr(inspection, "SECONDS_MAX", 0.5)
    assert (await add(client, picture()))["thumbnail_url"] is None
    assert not psutil.pid_exists(int(told.read_text()))


@pytest.mark.parametrize(
    "does",
    [
        f"import mmap; mmap.mmap(-1, 2 * inspector.MEMORY_BYTES_MAX)\n{SAYS}",
        f"while time.process_time() < 8: pass\n{SAYS}",
        f"os.kill(os.getpid(), signal.SIGSEGV)\n{SAYS}",
        f"os.write(os.open(__file__, os.O_APPEND | os.O_WRONLY), b'x')\n{SAYS}",
        f"inspector.say(passages=['x' * 99_999_999])\n{SAYS}",
        "os.close(1); signal.pause()",
        "print('not json'); print('[1]'); print('{\"thumbnail\": 7}')",
    ],
    ids=["memory", "time", "crash", "writes", "flood", "silence", "nonsense"],
)
async def test_whatever_happens_to_who_looks(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str
) -> None:
    """The file is added, and its gateway goes on."""
    hurt = _inspector(tmp_path, f"inspector.CPU_SECONDS_MAX = 1; inspector.limit()\n{does}")
    monkeypatch.setattr(inspector, "__file__", str(hurt))
    added = await add(client, picture())
    assert added["thumbnail_url"] is None
    assert (await client.get(added["file_url"])).status_code == 200


async def test_who_looks_knows_nothing_of_us(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADWATER_SECRET_OF_OURS", "x")
    told = tmp_path / "seen"
    seen = "[*os.environ, *os.listdir('/proc/self/fd')]"
    does = f"open({str(told)!r}, 'w').write(repr({seen}))\n{SAYS}"
    curious = _inspector(tmp_path, does)
    monkeypatch.setattr(inspector, "__file__", str(curious))
    assert (await add(client, picture()))["thumbnail_url"]
    found = ast.literal_eval(told.read_text())
    assert not [name for name in found if name.startswith(("HEADWATER", "PATH", "HOME"))]
    assert len(found) <= OPEN_MAX, found


def _inspector(folder: Path, does: str) -> Path:
    """A program in the place of the inspector, with the inspector at hand."""
    program = folder / "hurt.py"
    source = str(Path(inspector.__file__).parent)
    program.write_text(
        f"import os, signal, sys, time\nsys.path.append({source!r})\nimport inspector\n{does}\n"
    )
    return program


async def test_large_files_do_not_fill_the_memory(
    settings: Settings, tmp_path: Path, user: str
) -> None:
    sizes = {"HEADWATER_FILE_BYTES_MAX": str(64 * MIB), "HEADWATER_DATA_DIR": str(tmp_path)}
    async with process_of(settings, tmp_path, **sizes) as (process, port):
        await ready(process, tmp_path)
        gateway = psutil.Process(process.pid)
        async with _client(port, user) as client:
            place = await thread(client)
            assert (await send(client, place, b"warm")).status_code == 201
            before = gateway.memory_info().rss
            seen = [before]
            watch = asyncio.create_task(_watch(gateway, seen))
            path = f"/v1/threads/{place}/files"
            sent = (client.post(path, content=_large(), headers=FORM) for _ in range(LARGE_AT_ONCE))
            added = await asyncio.gather(*sent)
            assert [answer.status_code for answer in added] == [201] * LARGE_AT_ONCE
            size = 0
            async with client.stream("GET", added[0].json()["file_url"]) as got:
                async for chunk in got.aiter_bytes():
                    size += len(chunk)
            assert size == LARGE_BYTES
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
    most = max(seen)
    assert most - before < GROWTH_BYTES_MAX, f"{(most - before) / MIB:.0f} MiB"


async def _watch(process: psutil.Process, seen: list[int]) -> None:
    """Note how much memory a process has, until cancelled."""
    while True:
        seen.append(process.memory_info().rss)
        await asyncio.sleep(0.01)


async def _large() -> AsyncIterator[bytes]:
    yield part("file", b"")[:-2]
    for _ in range(LARGE_BYTES // MIB):
        yield b"x" * MIB
    yield b"\r\n--x--\r\n"


def _client(port: int, user: str) -> Client:
    headers = {"Authorization": f"Bearer {token_for(user)}"}
    return Client(f"http://127.0.0.1:{port}", headers)


async def test_a_gateway_that_dies_between_store_and_log(
    client: Client, worker: Worker, settings: Settings, tmp_path: Path, user: str
) -> None:
    """Nothing says that the file is there; who repeats the upload with its key gets it."""
    place = await thread(client)
    headers = {"Idempotency-Key": "k"}
    folder = {"HEADWATER_DATA_DIR": str(settings.data_dir)}
    async with process_of(settings, tmp_path, program=("-c", DYING), **folder) as (process, port):
        await ready(process, tmp_path)
        async with _client(port, user) as other:
            with pytest.raises(httpx.HTTPError):
                await send(other, place, TEXT, headers=headers)
        assert await soon(process.wait()) == -signal.SIGKILL
    assert [record.type for record in await worker.records(place)] == ["thread.created"]
    [left] = _objects(settings, place)
    assert await client.problem("GET", f"/v1/files/{left}") == (404, "not_found")
    added = await send(client, place, TEXT, headers=headers)
    assert added.json()["file_id"] == left
    assert (await client.get(added.json()["file_url"])).content == TEXT
    assert _objects(settings, place) == [left]


DYING = """
import os, signal, sys
from services.api.__main__ import main
from shared.thread_log import ThreadLog

async def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

ThreadLog.change_thread = die
sys.exit(main())
"""


def _objects(settings: Settings, thread_id: str) -> list[str]:
    return [path.name for path in (Path(settings.files_location) / thread_id).iterdir()]
