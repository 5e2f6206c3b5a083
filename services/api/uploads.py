"""Takes a file from a multipart body, in pieces, into a spooled file that nobody else can see.

    body ─▶ parser ─┬─ `file`    ─▶ spool on disk, hashed and checked on the way
                    └─ `message` ─▶ memory, bounded

The spool has no name: whatever ends the process, it is gone. What is held in memory of a file is
BLOCK_BYTES; while a block is written, nothing is read, and TCP holds the client back.

Failures
    Not a multipart body, broken off, a field too many: BadRequest.
    Larger than a file may be: FileTooLarge, as soon as that is known.
    No room on the disk: FilesUnavailable.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from multipart import (  # pyright: ignore[reportMissingTypeStubs] -- it has none
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,  # pyright: ignore[reportUnknownVariableType]
)
from pydantic import ValidationError

from services.api.file_names import clean_name
from services.api.file_types import HEAD_BYTES, TextCheck, type_of
from services.api.problems import BadRequest
from services.api.upload_schemas import UploadForm
from shared.errors import FilesUnavailable, FileTooLarge

FORM_DATA: Final = "multipart/form-data"
BLOCK_BYTES: Final = 1024 * 1024
MESSAGE_BYTES_MAX: Final = 4 * 65_536  # its characters are counted afterwards
FIELDS_MAX: Final = 2
FRAME_BYTES_MAX: Final = 64 * 1024  # of a body: what stands around the file and the message


def boundary_of(content_type: str) -> str:
    """What separates the fields of a form; '' for a body that is none."""
    kind, options = cast("tuple[str, dict[str, str]]", parse_options_header(content_type))
    return options.get("boundary", "") if kind == FORM_DATA else ""


class Spool:
    """A file on its way in; close it."""

    def __init__(self, bytes_max: int) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 -- closed below
        self.size, self.head = 0, b""
        self._bytes_max = bytes_max
        self._block = bytearray()
        self._hash, self._text = hashlib.sha256(), TextCheck()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.file.close()

    async def add(self, piece: bytes | bytearray) -> None:
        """Raises FileTooLarge, FilesUnavailable."""
        self.size += len(piece)
        if self.size > self._bytes_max:
            raise FileTooLarge(f"A file has at most {self._bytes_max:,} bytes.")
        self._block += piece
        if len(self._block) >= BLOCK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Raises FilesUnavailable."""
        block, self._block = bytes(self._block), bytearray()
        self.head = self.head or block[:HEAD_BYTES]
        try:
            await asyncio.to_thread(self._keep, block)
        except OSError as error:  # no room on the disk
            raise FilesUnavailable(f"No file can be taken: {error.strerror}.") from error

    def _keep(self, block: bytes) -> None:
        self._hash.update(block)
        self._text.feed(block)
        view = memoryview(block)
        while view:
            view = view[self.file.write(view) :]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def media_type(self) -> str:
        return type_of(self.head, is_text=self._text.ends())

    def content(self) -> bytes | Iterator[bytes]:
        """All of it, at once if it is small. Its place in the file is nobody else's."""
        descriptor = self.file.fileno()
        if self.size <= BLOCK_BYTES:
            return os.pread(descriptor, self.size, 0)
        places = range(0, self.size, BLOCK_BYTES)
        return (os.pread(descriptor, BLOCK_BYTES, place) for place in places)


class Form:
    """What a body holds: the file is in the spool, these are the other facts."""

    def __init__(self, spool: Spool) -> None:
        self.name: str | None = None  # of the file, once there was one
        self._spool, self._message = spool, bytearray()
        self._segment: MultipartSegment | None = None
        self._fields: set[str] = set()

    async def read(self, body: AsyncIterator[bytes], boundary: str) -> None:
        """Raises BadRequest, FileTooLarge, FilesUnavailable."""
        try:
            with PushMultipartParser(boundary, max_segment_count=FIELDS_MAX, strict=True) as parser:
                async for piece in body:
                    for part in parser.parse(piece) if piece else ():
                        await self._take(part)
        except MultipartError as error:
            raise BadRequest("invalid_request", f"multipart: {error}") from None
        await self._spool.flush()
        if self.name is None:
            raise BadRequest("invalid_request", "The field `file` is missing.")
        if not self._spool.size:
            raise BadRequest("invalid_request", "The file is empty.")

    def said(self) -> UploadForm:
        """What the body says, once it is read. Raises BadRequest."""
        has_message = "message" in self._fields
        try:
            message = self._message.decode() if has_message else None
            return UploadForm(name=self.name or "", sha256=self._spool.sha256, message=message)
        except UnicodeDecodeError:
            raise BadRequest("invalid_request", "The message is not UTF-8.") from None
        except ValidationError as error:
            what = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise BadRequest("invalid_request", f"The message is not valid: {what}") from None

    async def _take(self, part: MultipartSegment | bytes | bytearray | None) -> None:
        if isinstance(part, MultipartSegment):
            self._begin(part)
        elif part is None or self._segment is None:
            self._segment = None
        elif self._segment.name == "file":
            await self._spool.add(part)
        else:
            self._message += part
            if len(self._message) > MESSAGE_BYTES_MAX:
                raise BadRequest("invalid_request", "The message is too long.")

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name or ""
        if name not in ("file", "message") or name in self._fields:
            raise BadRequest("invalid_request", "Send `file`, and `message` or not, once each.")
        self._fields.add(name)
        self._segment = segment
        if name == "file":
            self.name = clean_name(segment.filename)
