"""Why something cannot be shown."""

from __future__ import annotations

from shared.errors import HeadwaterError


class ConsoleError(HeadwaterError):
    """The stream cannot be shown: the message is for the person who asked."""


class BadArguments(HeadwaterError):
    """What was typed makes no sense: the message says what would."""


class StreamBroken(HeadwaterError):
    """The connection is of no more use; the stream can be read on from its cursor."""
