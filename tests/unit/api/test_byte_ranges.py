"""Ranges of RFC 9110 §14, on a file of ten bytes."""

from __future__ import annotations

import pytest

from services.api.byte_ranges import Span, Unsatisfiable, matches, wanted

ETAG = '"e"'


def of_ten(header: str | None, if_range: str | None = None) -> Span | None:
    return wanted(header, if_range, size=10, etag=ETAG)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=9-", (9, 10)),
        ("bytes=0-99999999999", (0, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        (" bytes=1-2 ", (1, 3)),
        (None, None),
        ("", None),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=+1-2", None),
        ("bytes=" + "9" * 20 + "-", None),
    ],
)
def test_one_range_or_everything(header: str | None, span: Span | None) -> None:
    assert of_ten(header) == span


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=11-12", "bytes=-0"])
def test_what_begins_behind_the_end_is_not_there(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        of_ten(header)


def test_a_range_is_of_the_state_that_it_names() -> None:
    assert of_ten("bytes=1-2", ETAG) == (1, 3)
    assert of_ten("bytes=1-2", '"other"') is None
    assert of_ten("bytes=1-2", f"W/{ETAG}") is None
    assert of_ten("bytes=99-", '"other"') is None


def test_whether_a_client_has_it() -> None:
    assert matches(ETAG, ETAG)
    assert matches(f'"x", W/{ETAG}', ETAG)
    assert matches("*", ETAG)
    assert not matches('"x"', ETAG)
    assert not matches(None, ETAG)
