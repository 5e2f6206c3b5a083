"""When a model is asked again."""

from __future__ import annotations

import pytest

from services.orchestrator.model import ModelError, ModelRefused, ModelUnreachable
from services.orchestrator.model_limits import ModelLimits, seconds_asked

LIMITS = ModelLimits(
    tries_max=3,
    unreachable_tries_max=6,
    backoff_seconds_first=0.5,
    backoff_seconds_max=3.0,
    retry_after_seconds_max=20.0,
)
NOW = 1_760_000_000.0  # Thu, 09 Oct 2025 08:53:20 GMT


@pytest.mark.parametrize(("tries", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (5, 3.0)])
def test_the_wait_doubles_up_to_its_bound(tries: int, most: float) -> None:
    waits = [LIMITS.wait_seconds(tries, ModelUnreachable()) for _ in range(100)]
    assert all(wait is not None and most / 2 <= wait <= most for wait in waits)
    assert len(set(waits)) > 1, "clients that failed together must not come back together"


def test_the_last_try_is_not_followed_by_a_wait() -> None:
    assert LIMITS.wait_seconds(6, ModelUnreachable()) is None
    assert LIMITS.wait_seconds(2, ModelRefused(503)) is not None
    assert LIMITS.wait_seconds(3, ModelRefused(503)) is None


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_final_refusal_is_not_tried_again(status: int) -> None:
    assert LIMITS.wait_seconds(1, ModelRefused(status)) is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_a_passing_refusal_is_tried_again(status: int) -> None:
    assert LIMITS.wait_seconds(1, ModelRefused(status)) is not None


def test_a_server_is_not_asked_before_the_time_it_named() -> None:
    wait = LIMITS.wait_seconds(1, ModelRefused(429, retry_after=7.0))
    assert wait is not None
    assert 7.0 <= wait <= 7.5


@pytest.mark.parametrize("asked", [20.1, float("inf")])
def test_a_server_that_asks_for_too_long_is_not_asked_again(asked: float) -> None:
    assert LIMITS.wait_seconds(1, ModelRefused(503, retry_after=asked)) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-4", 0.0),
        ("Thu, 09 Oct 2025 08:53:50 GMT", 30.0),
        ("Thu, 09 Oct 2025 08:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(header: str, seconds: float | None) -> None:
    assert seconds_asked(header, now=NOW) == seconds


@pytest.mark.parametrize(
    ("error", "code"),
    [(ModelRefused(429), "model_rate_limited"), (ModelRefused(500), "model_refused")],
)
def test_the_codes_clients_know(error: ModelError, code: str) -> None:
    assert error.code == code
