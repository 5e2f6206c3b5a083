"""Names of files, as people and as attackers send them."""

from __future__ import annotations

import pytest

from services.api.file_names import NAME_BYTES_MAX, clean_name, content_disposition


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("한국어 보고서.pdf", "한국어 보고서.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\me.png", "me.png"),
        ("a\r\nSet-Cookie: x=1.txt", "aSet-Cookie: x=1.txt"),
        ("a\0b.txt", "ab.txt"),
        ("gnp.\u202eexe", "gnp.exe"),
        ("\u200b\ufeff", "file"),
        ("..", "file"),
        (" .hidden ", "hidden"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("a\u2028b", "ab"),
        ("half \ud800 pair", "half pair"),
        ("/", "file"),
        ("", "file"),
        (None, "file"),
    ],
)
def test_a_name_is_one_line_that_is_seen(sent: str | None, kept: str) -> None:
    assert clean_name(sent) == kept


@pytest.mark.parametrize("char", ["x", "é", "강", "🌊"])
def test_a_long_name_keeps_its_ending(char: str) -> None:
    kept = clean_name(char * 400 + ".pdf")
    assert kept.endswith(f"{char}.pdf")
    assert NAME_BYTES_MAX - 4 <= len(kept.encode()) <= NAME_BYTES_MAX


@pytest.mark.parametrize("name", ["x" * 400, "." + "y" * 400, "a." + "z" * 300])
def test_a_long_name_without_an_ending_is_cut(name: str) -> None:
    assert len(clean_name(name).encode()) <= NAME_BYTES_MAX


def test_the_header_holds_any_name() -> None:
    header = content_disposition('a"b\\%41 한.txt', inline=False)
    assert header == (
        "attachment; filename=\"a_b__41 _.txt\"; filename*=UTF-8''a%22b%5C%2541%20%ED%95%9C.txt"
    )
    assert content_disposition("a.png", inline=True).startswith("inline; ")
