"""Frames out of bytes, wherever the reads are cut."""

from __future__ import annotations

import pytest

from infra.console import event_stream
from infra.console.errors import StreamBroken
from infra.console.event_stream import Frame, FrameReader

STREAM = (
    b": ping\n\n"
    b'id: 1\nevent: started\ndata: {"a":"\xe2\x94\x80"}\n\n'
    b"id:2\r\nevent:token\r\ndata:x\r\ndata: y\r\n\r\n"
    b"event: reconnect\nretry: 250\ndata: {}\n\n"
    b"id: 3\nevent: no-data\n\n"
)
FRAMES = [
    Frame("started", '{"a":"─"}', "1", None),
    Frame("token", "x\ny", "2", None),
    Frame("reconnect", "{}", None, 250),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(STREAM)])
def test_frames_do_not_depend_on_where_reads_end(size: int) -> None:
    reader = FrameReader()
    reads = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [frame for read in reads for frame in reader.feed(read)] == FRAMES


def test_frame_is_given_out_only_when_it_is_whole() -> None:
    reader = FrameReader()
    assert not reader.feed(b"id: 1\ndata: x\n")
    assert reader.feed(b"\n") == [Frame("message", "x", "1", None)]


def test_retry_that_is_no_number_is_not_obeyed() -> None:
    (frame,) = FrameReader().feed("retry: ²\ndata: x\n\n".encode())
    assert frame.retry_ms is None


def test_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "FRAME_BYTES_MAX", 8)
    with pytest.raises(StreamBroken):
        FrameReader().feed(b"data: 123")
