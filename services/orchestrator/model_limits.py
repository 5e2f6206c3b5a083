"""How long to wait for a model, and whether and when to ask it again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from services.orchestrator.model import ModelError, ModelRefused, ModelUnreachable


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """The bounds of one question. ``tries_max`` counts the first one too.

    A server that cannot be reached is given the time of a restart, but not for ever: it may be this
    question that ends it.
    """

    connect_seconds: float = 5.0
    first_token_seconds: float = 60.0  # of one try, connecting included
    between_tokens_seconds: float = 30.0
    tries_max: int = 3
    unreachable_tries_max: int = 6  # in 3.9 to 7.75 seconds
    backoff_seconds_first: float = 0.25
    backoff_seconds_max: float = 4.0
    retry_after_seconds_max: float = 20.0

    def wait_seconds(self, tries: int, error: ModelError) -> float | None:
        """How long to wait before the next try, after ``tries`` of them; None: give up.

        At least what the server asked for, then between half and all of an exponential back-off,
        so that clients that failed together do not come back together.
        """
        is_away = isinstance(error, ModelUnreachable)
        tries_max = self.unreachable_tries_max if is_away else self.tries_max
        if not error.retryable or tries >= tries_max:
            return None
        asked = (error.retry_after or 0.0) if isinstance(error, ModelRefused) else 0.0
        if asked > self.retry_after_seconds_max:
            return None
        backoff = min(self.backoff_seconds_max, self.backoff_seconds_first * 2 ** (tries - 1))
        return asked + random.uniform(backoff / 2, backoff)


def seconds_asked(retry_after: str, *, now: float) -> float | None:
    """Retry-After, in seconds or as an HTTP date (RFC 9110 §10.2.3). None if it makes no sense.

    ``now`` is in Unix seconds, like the date.
    """
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
