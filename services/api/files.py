"""Files of threads: added with their bytes, found by their id, gone with their thread.

    spool ─▶ type, limits ─▶ inspection ─▶ store: bytes, thumbnail ─▶ log: file.added, file.passages

The bytes come first: a file that the log names is there. What a file is stands in Redis until it is
archived, and in Postgres from then on, as with messages.

Failures
    Dies before the log    The bytes are left over, and swept away by a persister hours later.
    Repeated with its key  The same file: its bytes are written again, and it is added once.
    Object gone            NotFound: its file was deleted meanwhile, or its store has lost it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from services.api.inspection import Inspection, Seen
from services.api.threads import Threads
from services.api.uploads import Spool
from shared.archive import Archive
from shared.errors import FileTypeRefused, NotFound, NotTheOwner, TooManyUploads
from shared.events import Attachment, FileAdded, FileDeleted, FilePassages
from shared.file_store import FileStore
from shared.hot_state import HotState
from shared.idempotency import Plan
from shared.ids import is_file_id, thread_of_file
from shared.projection import merge
from shared.read_model import files
from shared.thread_log import Thread
from shared.times import utc_now
from shared.transcript import unarchived

UPLOADS_PER_USER_MAX: Final = 32  # at once, in one gateway: each may fill the disk with a file
PASSAGES_BYTES_MAX: Final = 32 * 1024  # of one event


@dataclass(frozen=True, slots=True)
class FileLimits:
    bytes_max: int
    types: Sequence[str]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a thread."""

    file_id: str
    thread_id: str
    user: str
    name: str
    media_type: str
    size: int
    sha256: str
    has_thumbnail: bool

    @property
    def attachment(self) -> Attachment:
        return Attachment(
            file_id=self.file_id,
            name=self.name,
            type=self.media_type,
            size=self.size,
            has_thumbnail=self.has_thumbnail,
        )


class Files:
    def __init__(
        self,
        threads: Threads,
        hot: HotState,
        archive: Archive,
        store: FileStore,
        *,
        limits: FileLimits,
    ) -> None:
        self._threads, self._hot, self._archive, self.store = threads, hot, archive, store
        self.limits = limits
        self._inspection = Inspection()
        self._uploads: Counter[str] = Counter()

    @contextmanager
    def upload(self, user: str) -> Generator[Spool]:
        """A spool for what the user sends. Raises TooManyUploads."""
        if self._uploads[user] >= UPLOADS_PER_USER_MAX:
            raise TooManyUploads()
        self._uploads[user] += 1
        try:
            with Spool(self.limits.bytes_max) as spool:
                yield spool
        finally:
            self._uploads[user] -= 1
            self._uploads += Counter()  # forgets who has none

    async def add(self, user: str, name: str, spool: Spool, plan: Plan) -> File:
        """Put a spooled file into a thread; once, however often the plan is carried out.

        Raises NotFound (no such thread), FileTypeRefused, ImageTooLarge, FilesUnavailable.
        """
        known = await self._find(await self._threads.get(user, plan.thread_id), plan.file_id)
        if known is not None:
            return known
        media_type = spool.media_type
        if media_type not in self.limits.types:
            raise FileTypeRefused(f"A file of the type {media_type} is not taken here.")
        seen = await self._inspection.look(spool.file, media_type)
        added = FileAdded(
            thread_id=plan.thread_id,
            at=plan.at,
            file_id=plan.file_id,
            user=user,
            name=name,
            media_type=media_type,
            size=spool.size,
            sha256=spool.sha256,
            has_thumbnail=seen.thumbnail is not None,
            passages=len(seen.passages),
        )
        await self.store.put(added.file_id, spool.content())
        if seen.thumbnail is not None:
            await self.store.put_thumbnail(added.file_id, seen.thumbnail)
        await self._threads.add_file(user, added, passages_of(added, seen))
        return _file(added.model_dump() | {"user_id": user})

    async def get(self, user: str, file_id: str) -> File:
        """Raises NotFound: no such file, or not for this user, or deleted."""
        if not is_file_id(file_id):
            raise NotFound()
        found = await self._find(await self._threads.get(user, thread_of_file(file_id)), file_id)
        if found is None:
            raise NotFound()
        return found

    async def attachments(
        self, user: str, thread_id: str, file_ids: Sequence[str]
    ) -> tuple[Attachment, ...]:
        """Files of a thread, as a message refers to them. Raises NotFound, for any of them."""
        found = [await self.get(user, file_id) for file_id in file_ids]
        if any(file.thread_id != thread_id for file in found):
            raise NotFound()
        return tuple(file.attachment for file in found)

    async def delete(self, user: str, file_id: str) -> None:
        """Who added it may, and the thread's owner. Raises NotFound, NotTheOwner."""
        file = await self.get(user, file_id)
        thread = await self._threads.get(user, file.thread_id)
        if user not in (file.user, thread.owner):
            raise NotTheOwner("Only who added it, and the owner of the thread, may do this.")
        event = FileDeleted(thread_id=file.thread_id, at=utc_now(), file_id=file_id, user=user)
        await self._threads.delete_file(user, event)

    async def _find(self, thread: Thread, file_id: str) -> File | None:
        """What Redis and Postgres know of it, together: either may know of its end only."""
        tail = await unarchived(self._hot, thread.thread_id, archived=thread.archived)
        rows = await self._archive.mappings(select(files).where(files.c.file_id == file_id))
        row: dict[str, Any] = dict(rows[0]) if rows else {}
        said = tail.files.get(file_id, {})
        row = {**said, **merge(files, row, said)}
        is_there = row.get("name") is not None and row.get("deleted_at") is None
        return _file(row) if is_there else None


def passages_of(file: FileAdded, seen: Seen) -> list[FilePassages]:
    """The events that carry a file's text, each within its bound."""
    events: list[FilePassages] = []
    texts: list[str] = []
    size, first = 0, 1
    for number, text in enumerate((*seen.passages, ""), 1):
        is_last = number > len(seen.passages)
        if texts and (is_last or size + len(text.encode()) > PASSAGES_BYTES_MAX):
            events.append(
                FilePassages(
                    thread_id=file.thread_id,
                    at=file.at,
                    file_id=file.file_id,
                    first=first,
                    texts=tuple(texts),
                )
            )
            texts, size, first = [], 0, number
        texts.append(text)
        size += len(text.encode())
    return events


def _file(row: Mapping[str, Any]) -> File:
    return File(
        file_id=row["file_id"],
        thread_id=row["thread_id"],
        user=row["user_id"],
        name=row["name"],
        media_type=row["media_type"],
        size=row["size"],
        sha256=row["sha256"],
        has_thumbnail=bool(row["has_thumbnail"]),
    )
