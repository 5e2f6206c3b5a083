"""Looks into one file, in a process of its own: `python inspector.py TYPE`, the file as stdin.

    file ──▶ pixels ──▶ thumbnail ──▶ passages        a line of JSON each, as soon as it is known

What a stranger has made is taken apart here and nowhere else: with limits on memory, time and
output, without the environment, and without anything of the project in its address space.
Libraries are loaded behind the limits. Whatever goes wrong ends it, and what it has said holds.
"""

from __future__ import annotations

import base64
import io
import json
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final

MEMORY_BYTES_MAX: Final = 1024 * 1024 * 1024  # of address space: libraries take a fifth of it
CPU_SECONDS_MAX: Final = 10
IMAGE_PIXELS_MAX: Final = 40_000_000  # 160 MB when unpacked
THUMBNAIL_PIXELS: Final = 320  # of its longer side
THUMBNAIL_QUALITY: Final = 80
PAGES_MAX: Final = 500  # of a PDF, whose text is looked at
TEXT_CHARS_MAX: Final = 256 * 1024
PASSAGE_CHARS: Final = 1000  # paragraphs are joined, and cut, to about so many
FORMATS: Final = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
}
_UNTYPED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
_WHERE_TO_CUT: Final = (re.compile(r"(?<=[.!?。！？])\s*"), re.compile(r"\s+"))


def main(media_type: str, file: BinaryIO) -> None:
    limit()
    if media_type in FORMATS:
        look_at_image(FORMATS[media_type], file)
    elif media_type == "application/pdf":
        look_at_pdf(file)
    elif media_type == "text/plain":
        text = file.read(4 * TEXT_CHARS_MAX).decode("utf-8-sig", errors="ignore")
        say(passages=list(passages_of(text)))


def limit() -> None:
    """No turning back: neither limit can be raised again."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
    for name in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):  # it writes to a pipe only
        resource.setrlimit(name, (0, 0))
    with suppress(ValueError):  # there may be threads already
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def look_at_image(known_format: str, file: BinaryIO) -> None:
    """Its header tells how large it is, before anything is unpacked."""
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # the bound is ours
    image = Image.open(file, formats=[known_format])
    say(pixels=image.width * image.height)
    if image.width * image.height > IMAGE_PIXELS_MAX:
        return
    image.draft("RGB", (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))  # a JPEG is unpacked no larger
    say_thumbnail(ImageOps.exif_transpose(image))


def look_at_pdf(file: BinaryIO) -> None:
    import pypdfium2  # pyright: ignore[reportMissingTypeStubs] -- it has none

    document: Any = pypdfium2.PdfDocument(file)
    with suppress(pypdfium2.PdfiumError):  # a page may be broken, and the text of others not
        page = document[0]
        scale = THUMBNAIL_PIXELS / max(*page.get_size(), 1)
        say_thumbnail(page.render(scale=scale).to_pil())
    say(passages=list(passages_of("\n\n".join(_texts_of(document)))))


def _texts_of(document: Any) -> Iterator[str]:
    left = TEXT_CHARS_MAX
    for number in range(min(len(document), PAGES_MAX)):
        text = document[number].get_textpage().get_text_bounded()
        yield text.replace("\r\n", "\n")
        left -= len(text)
        if left <= 0:
            return


def say_thumbnail(image: Any) -> None:
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=THUMBNAIL_QUALITY)
    say(thumbnail=base64.b64encode(out.getvalue()).decode())


def passages_of(text: str) -> Iterator[str]:
    """A text in pieces of about PASSAGE_CHARS, at the borders of paragraphs where that goes."""
    clean = _UNTYPED.sub("", text[:TEXT_CHARS_MAX])
    paragraphs = (each.strip() for each in _PARAGRAPHS.split(clean))
    pieces = (piece for each in paragraphs if each for piece in _cut(each))
    return _joined(pieces)


def _joined(pieces: Iterable[str]) -> Iterator[str]:
    held = ""
    for piece in pieces:
        if held and len(held) + len(piece) > PASSAGE_CHARS:
            yield held
            held = ""
        held = f"{held}\n\n{piece}" if held else piece
    if held:
        yield held


def _cut(paragraph: str) -> Iterator[str]:
    """A long paragraph in parts: behind a sentence, else between words, else anywhere."""
    while len(paragraph) > PASSAGE_CHARS:
        end = _place_to_cut(paragraph[:PASSAGE_CHARS])
        yield paragraph[:end].strip()
        paragraph = paragraph[end:].lstrip()
    if paragraph:
        yield paragraph


def _place_to_cut(head: str) -> int:
    for border in _WHERE_TO_CUT:
        ends = [found.end() for found in border.finditer(head) if found.end() > len(head) // 2]
        if ends:
            return ends[-1]
    return len(head)


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin.buffer)
