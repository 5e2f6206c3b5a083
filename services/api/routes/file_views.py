"""How files are shown: their facts, and where their bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.api.files import File
from services.api.schemas import FileInfo, FileView
from shared.events import Attachment


def view_of_file(file: File) -> FileView:
    return _view(file.attachment)


def view_of_attachment(attachment: Mapping[str, Any]) -> FileView:
    """Of a file that a message has, as the read model keeps it."""
    return _view(Attachment.model_validate(attachment))


def _view(file: Attachment) -> FileView:
    url = f"/v1/files/{file.file_id}"
    return FileView(
        file_id=file.file_id,
        file_url=url,
        thumbnail_url=f"{url}/thumbnail" if file.has_thumbnail else None,
        file_info=FileInfo(name=file.name, type=file.type, size=file.size),
    )
