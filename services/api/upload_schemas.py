"""What an upload says, and what is said to it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.api.bodies import Text
from services.api.schemas import AcceptedView, FileView


class UploadForm(BaseModel):
    """What an upload says; of its bytes, their hash."""

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    message: Text | None


class UploadedView(FileView):
    """A file that was added, and the message that was posted with it."""

    message: AcceptedView | None = Field(description="when the upload had one")
