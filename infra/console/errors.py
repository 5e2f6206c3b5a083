"""Why a stream cannot be shown."""

from __future__ import annotations

from shared.errors import HeadwaterError


class ConsoleError(HeadwaterError):
    """The stream cannot be shown: the message is for the person who asked."""


class StreamBroken(HeadwaterError):
    """The connection is of no more use; the stream can be read on from its cursor."""
