"""The bytes of files: objects in a folder on disk, or in a store that speaks S3 (or GCS, or Azure).

    <thread_id>/<file_id>              the file
    <thread_id>/<file_id>.thumbnail    its thumbnail, if it has one

An object appears whole or not at all, and is never changed. Whether it means anything is not said
here but by the log: an object that no event names is left over, and swept away by the persister.

The library's own asyncio interface hands results over from threads that may outlive the
interpreter, which then aborts; so its blocking one is called, in threads of ours.

Failures
    Store away            FilesUnavailable, after STORE_SECONDS_MAX: nothing is known to be there.
    No such object        None: it was swept away, or never came.
    Killed while writing  On disk a file is left whose name ends in `#` and a number, which no
                          listing shows; ``tidy`` removes it. S3 keeps the parts of an upload that
                          was not completed, until a lifecycle rule of the bucket removes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from shared.errors import FilesUnavailable
from shared.ids import is_file_id, thread_of_file

THUMBNAIL: Final = ".thumbnail"
THREADS_MAX: Final = 32  # calls of one process that wait for the store
CHUNK_BYTES: Final = 256 * 1024  # read from the store at once
PART_BYTES: Final = 5 * 1024 * 1024  # written at once: the least that S3 takes for a part
PARTS_AT_ONCE_MAX: Final = 2  # of one object: with the one being filled, 15 MiB of memory
LIST_PAGE_MAX: Final = 1000
STORE_SECONDS_MAX: Final = 30

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it; ``file_id`` is None for what is none of ours."""

    path: str
    file_id: str | None
    modified_at: datetime


class FileStore:
    """Stateless but for its threads: any number may work on the same store."""

    def __init__(self, location: str | Path) -> None:
        """``location`` is a folder, which is made when it is first needed, or a URL."""
        self._location = location
        self._opened: ObjectStore | None = None
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="files")

    async def put(self, file_id: str, content: bytes | Iterator[bytes]) -> None:
        """Keep a file; in pieces, it is never all in memory. Raises FilesUnavailable."""
        path, in_pieces = _path(file_id), not isinstance(content, bytes)
        await self._call(
            lambda: obstore.put(
                self._store(),
                path,
                content,
                use_multipart=in_pieces,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE_MAX,
            )
        )

    async def put_thumbnail(self, file_id: str, content: bytes) -> None:
        """Raises FilesUnavailable."""
        path = _path(file_id) + THUMBNAIL
        await self._call(lambda: obstore.put(self._store(), path, content, use_multipart=False))

    async def get(self, file_id: str, start: int, end: int) -> AsyncGenerator[bytes] | None:
        """The bytes of a file from ``start`` up to ``end``. Raises FilesUnavailable, also later."""
        return await self._get(_path(file_id), {"range": (start, end)})

    async def get_thumbnail(self, file_id: str) -> AsyncGenerator[bytes] | None:
        """The same of its thumbnail, all of it."""
        return await self._get(_path(file_id) + THUMBNAIL, {})

    async def pages(self, *, thread_id: str | None = None) -> AsyncGenerator[list[StoredObject]]:
        """All objects, or those of a thread, LIST_PAGE_MAX at a time. Raises FilesUnavailable."""
        if isinstance(self._location, Path) and not self._location.exists():
            return  # nobody has kept a file here yet
        prefix = f"{thread_id}/" if thread_id else None
        pages: Iterator[Any] = await self._call(lambda: _list(self._store(), prefix))
        while page := await self._call(lambda: next(pages, None)):
            yield [
                StoredObject(each["path"], _file_of(each["path"]), each["last_modified"])
                for each in page
            ]

    async def remove_file(self, file_id: str) -> None:
        """Remove a file and its thumbnail. Raises FilesUnavailable."""
        await self.remove([_path(file_id), _path(file_id) + THUMBNAIL])

    async def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error. Raises FilesUnavailable."""
        for path in paths:
            await self._call(lambda path=path: _gone(self._store(), path))

    async def tidy(self, older_than: timedelta) -> int:
        """Remove what a killed writer left on disk; how many files."""
        if not isinstance(self._location, Path):
            return 0
        folder, before = self._location, time.time() - older_than.total_seconds()
        return await self._call(lambda: _remove_unfinished(folder, before))

    async def _get(self, path: str, options: Any) -> AsyncGenerator[bytes] | None:
        def begin() -> Iterator[Any] | None:
            try:
                found = obstore.get(self._store(), path, options=options)
            except FileNotFoundError:
                return None
            return iter(found.stream(min_chunk_size=CHUNK_BYTES))

        chunks = await self._call(begin)
        return None if chunks is None else self._chunks(chunks)

    async def _chunks(self, chunks: Iterator[Any]) -> AsyncGenerator[bytes]:
        while (chunk := await self._call(lambda: next(chunks, None))) is not None:
            yield bytes(chunk)

    async def _call(self, call: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call)
        except (BaseError, OSError) as error:
            raise FilesUnavailable(f"The files are unavailable: {type(error).__name__}") from error

    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = _open(self._location)
        return self._opened


def _open(location: str | Path) -> ObjectStore:
    if isinstance(location, Path):
        return LocalStore(location, mkdir=True, automatic_cleanup=True)
    seconds = timedelta(seconds=STORE_SECONDS_MAX)
    return from_url(location, retry_config={"retry_timeout": seconds, "max_retries": 3})


def _list(store: ObjectStore, prefix: str | None) -> Iterator[Any]:
    # Arrow tables are another of its results, of a library that is not installed.
    return iter(obstore.list(store, prefix, chunk_size=LIST_PAGE_MAX))  # pyright: ignore[reportUnknownMemberType]


def _path(file_id: str) -> str:
    return f"{thread_of_file(file_id)}/{file_id}"


def _file_of(path: str) -> str | None:
    file_id = path.rpartition("/")[2].removesuffix(THUMBNAIL)
    is_ours = is_file_id(file_id) and path.removesuffix(THUMBNAIL) == _path(file_id)
    return file_id if is_ours else None


def _gone(store: ObjectStore, path: str) -> None:
    try:
        obstore.delete(store, path)
    except FileNotFoundError:
        return


def _remove_unfinished(folder: Path, before: float) -> int:
    unfinished = [
        path for path in folder.glob("*/*#*") if path.is_file() and path.stat().st_mtime < before
    ]
    for path in unfinished:
        path.unlink(missing_ok=True)
    return len(unfinished)
