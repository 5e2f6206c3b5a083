"""Why a WebSocket ends, as its client is told: a code, a word, and whether to come back.

From 4400 on a code is 4000 and the status of a problem, whose code is the word.
"""

from __future__ import annotations

from typing import Final, NamedTuple

OF_PROBLEMS: Final = 4000


class Close(NamedTuple):
    """``reason`` is for programs and stays."""

    code: int
    reason: str


BINARY: Final = Close(1003, "not_text")
FLOODING: Final = Close(1008, "too_many_frames")
TOO_LARGE: Final = Close(1009, "frame_too_large")
DEFECT: Final = Close(1011, "internal_error")
RESTARTING: Final = Close(1012, "reconnect")
TOKEN_OVER: Final = Close(4401, "unauthorized")
GONE: Final = Close(4404, "not_found")
IDLE: Final = Close(4408, "idle")
SLOW: Final = Close(4408, "slow")
