"""Types by content: formats, texts, and files that want to be both."""

from __future__ import annotations

import pytest

from services.api.file_types import TextCheck, type_of
from tests.support.sample_files import pdf, picture


def type_by(content: bytes, *, step: int = 7) -> str:
    check = TextCheck()
    for start in range(0, len(content), step):
        check.feed(content[start : start + step])
    return type_of(content[:8192], is_text=check.ends())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_images_are_known(kind: str) -> None:
    assert type_by(picture(kind)) == f"image/{kind.lower()}"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"plain", "text/plain"),
        ("강물 🌊\r\n\tx\x1b[0m".encode(), "text/plain"),
        (b"<html><script>alert(1)</script>", "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text/plain"),
        (b'{"a": 1}', "text/plain"),
        (b"GIF89a/*<script>*/=1", "image/gif"),
        (b"%PDF-1.7 <html>", "application/pdf"),
        (b"\xff\xd8\xff\xe0<?php ?>", "image/jpeg"),
        (b"caf\xe9", "application/octet-stream"),
        (b"half" + "강".encode()[:2], "application/octet-stream"),
        (b"a\0b", "application/octet-stream"),
    ],
)
def test_content_decides(content: bytes, media_type: str) -> None:
    assert type_by(content) == media_type


@pytest.mark.parametrize("content", [b"MZ\x90\0" + b"\0" * 60, b"PK\x03\x04" + b"\0" * 60])
def test_programs_and_archives_are_neither_text_nor_image(content: bytes) -> None:
    assert not type_by(content).startswith(("text/", "image/"))


def test_a_pdf_of_ascii_is_no_text() -> None:
    assert type_by(pdf(["hi"])) == "application/pdf"
