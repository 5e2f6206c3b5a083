"""Signals: what is told to who is there now, and kept nowhere.

They travel on a thread's channel beside its events, and look like no event of it:

    ~<sender> <JSON>      sender: the socket that need not be told; `-`: nobody
"""

from __future__ import annotations

from typing import Final, NamedTuple

MARK: Final = b"~"
NOBODY: Final = "-"


class Signal(NamedTuple):
    sender: str
    data: bytes  # one JSON object, as clients receive it


def is_signal(payload: bytes) -> bool:
    return payload.startswith(MARK)


def encode_signal(signal: Signal) -> bytes:
    return b"%b%b %b" % (MARK, signal.sender.encode(), signal.data)


def decode_signal(payload: bytes) -> Signal:
    sender, _, data = payload[len(MARK) :].partition(b" ")
    return Signal(sender.decode(), data)
