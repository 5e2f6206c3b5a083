"""Objects of the store of files go when nothing stands for them any more, and no other does."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.file_sweep import FileSweep
from shared.archive import Archive
from shared.events import FileAdded, FileDeleted, ThreadDeleted
from shared.file_store import FileStore
from shared.hot_state import HotState
from shared.ids import new_file_id, new_thread_id
from shared.settings import Settings
from shared.times import utc_now
from tests.integration.persister.processes import persister
from tests.integration.persister.running import eventually, is_consumed, running
from tests.integration.persister.writer import PARTITIONS, USER, Writer

DAY = timedelta(hours=24)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"data_dir": tmp_path})


@pytest.fixture
def store(settings: Settings) -> FileStore:
    return FileStore(settings.files_location)


@pytest.fixture
async def sweep(store: FileStore, writer: Writer, engine: AsyncEngine) -> FileSweep:
    hot = HotState(writer.redis, PARTITIONS)
    return FileSweep(store, hot, Archive(engine), orphan_age=DAY)


@pytest.fixture
async def thread_id(writer: Writer) -> str:
    """Of a thread in which nobody has put a file."""
    return (await writer.chat()).thread_id


async def keep(store: FileStore, thread_id: str) -> str:
    """Put a file's bytes and its thumbnail into the store, and tell nobody; its id."""
    file_id = new_file_id(thread_id)
    await store.put(file_id, b"text")
    await store.put_thumbnail(file_id, b"picture")
    return file_id


async def add(writer: Writer, store: FileStore, thread_id: str) -> str:
    file_id = await keep(store, thread_id)
    await tell(writer, file_id, thread_id)
    return file_id


async def tell(writer: Writer, file_id: str, thread_id: str) -> None:
    added = FileAdded(
        thread_id=thread_id,
        at=utc_now(),
        file_id=file_id,
        user=USER,
        name="a.txt",
        media_type="text/plain",
        size=4,
        sha256="0" * 64,
        has_thumbnail=True,
    )
    await writer.change(added)


async def archive_all(writer: Writer, settings: Settings) -> None:
    """By a persister that is gone before it has removed anything it noted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileSweep, "watch", _watch_nothing)
        async with running(settings):
            await eventually(lambda: is_consumed(writer.redis))


async def _watch_nothing(_: FileSweep, draining: object) -> None:
    await draining.wait()  # pyright: ignore[reportAttributeAccessIssue]


FORGETFUL = """
import sys
from services.persister.__main__ import main
from services.persister.file_sweep import FileSweep

async def watch(_, draining):
    await draining.wait()

FileSweep.watch = watch
sys.exit(main())
"""


def objects(settings: Settings) -> set[str]:
    folder = Path(settings.files_location)
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def objects_of(file_id: str, thread_id: str) -> set[str]:
    return {f"{thread_id}/{file_id}", f"{thread_id}/{file_id}.thumbnail"}


def make_old(settings: Settings, hours: float) -> None:
    at = time.time() - hours * 3600
    for name in objects(settings):
        os.utime(Path(settings.files_location) / name, (at, at))


@pytest.mark.usefixtures("no_sweep")
async def test_files_die_with_their_thread(
    writer: Writer, settings: Settings, store: FileStore, thread_id: str
) -> None:
    other = (await writer.chat()).thread_id
    kept = await add(writer, store, other)
    async with running(settings):
        await add(writer, store, thread_id)
        await keep(store, thread_id)  # of an upload that came too late
        await eventually(lambda: is_consumed(writer.redis))
        await writer.change(ThreadDeleted(thread_id=thread_id, at=utc_now()))
        await eventually(lambda: equal(objects(settings), objects_of(kept, other)))


@pytest.fixture
def no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes, goes because it was noted."""

    async def sweep(_: FileSweep) -> int:
        return 0

    monkeypatch.setattr(FileSweep, "sweep", sweep)


async def equal(one: object, other: object) -> bool:
    return one == other


@pytest.mark.usefixtures("no_sweep")
async def test_a_deleted_file_goes_and_its_neighbour_stays(
    writer: Writer, settings: Settings, store: FileStore, thread_id: str
) -> None:
    kept = await add(writer, store, thread_id)
    gone = await add(writer, store, thread_id)
    async with running(settings):
        event = FileDeleted(thread_id=thread_id, at=utc_now(), file_id=gone, user=USER)
        await writer.change(event)
        await eventually(lambda: equal(objects(settings), objects_of(kept, thread_id)))


async def test_a_persister_that_died_before_it_removed_leaves_it_to_the_next(
    writer: Writer, settings: Settings, store: FileStore, thread_id: str, tmp_path: Path
) -> None:
    """The first one is killed when it has archived the deletion, and its note is lost with it."""
    await add(writer, store, thread_id)
    await writer.change(ThreadDeleted(thread_id=thread_id, at=utc_now()))
    with persister(settings, tmp_path, program=("-c", FORGETFUL)) as first:
        await eventually(lambda: is_consumed(writer.redis))
        first.signal(signal.SIGKILL)
    assert len(objects(settings)) == len(objects_of("", ""))
    async with running(settings):
        await eventually(lambda: equal(objects(settings), set()))


async def test_what_no_event_names_goes_when_it_is_old(
    writer: Writer, settings: Settings, store: FileStore, sweep: FileSweep, thread_id: str
) -> None:
    kept = await add(writer, store, thread_id)
    lost = await keep(store, thread_id)
    await archive_all(writer, settings)
    make_old(settings, 23)
    assert await sweep.sweep() == 0
    make_old(settings, 25)
    assert await sweep.sweep() == len(objects_of(lost, thread_id))
    assert objects(settings) == objects_of(kept, thread_id)
    assert await sweep.sweep() == 0


async def test_what_waits_to_be_archived_stays(
    writer: Writer, settings: Settings, store: FileStore, sweep: FileSweep, thread_id: str
) -> None:
    await archive_all(writer, settings)
    await add(writer, store, thread_id)
    make_old(settings, 100)
    assert await sweep.sweep() == 0
    await archive_all(writer, settings)
    assert await sweep.sweep() == 0


async def test_what_is_of_no_thread_of_ours_stays(
    writer: Writer, settings: Settings, store: FileStore, sweep: FileSweep, thread_id: str
) -> None:
    await archive_all(writer, settings)
    await keep(store, new_thread_id())  # another deployment's, for all that is known
    folder = Path(settings.files_location)
    for name in ("notes.txt", f"{thread_id}/notes.txt", f"{thread_id}/file_1", f"x/{thread_id}"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    before = objects(settings)
    make_old(settings, 100)
    assert await sweep.sweep() == 0
    assert objects(settings) == before


async def test_what_a_killed_writer_left_on_disk_goes(
    writer: Writer, settings: Settings, sweep: FileSweep, store: FileStore, thread_id: str
) -> None:
    kept = await add(writer, store, thread_id)
    await archive_all(writer, settings)
    unfinished = Path(settings.files_location) / thread_id / f"{new_file_id(thread_id)}#1"
    unfinished.write_bytes(b"half of")
    assert await sweep.sweep() == 0
    make_old(settings, 25)
    assert await sweep.sweep() == 1
    assert objects(settings) == objects_of(kept, thread_id)


async def test_an_empty_store_is_no_folder(sweep: FileSweep, settings: Settings) -> None:
    assert await sweep.sweep() == 0
    assert not list(settings.data_dir.iterdir())
