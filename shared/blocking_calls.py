"""Scripts for a thread of its own, in one round trip and without retries: its owner tries again.

One server is asked through the driver's blocking client. To a cluster, and through sentinels, there
is one way only, and it is asynchronous: the thread gets an event loop that runs while it is asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

from shared.redis_client import (
    NoScriptError,
    Patience,
    connect,
    connect_blocking,
    is_one_server,
)
from shared.redis_scripts import Call, run_many


class BlockingCalls(Protocol):
    """Used, and closed, by one thread."""

    def send(self, calls: Sequence[Call]) -> list[Any]:
        """The replies, in order; a call that failed leaves its exception in its place.

        Raises RedisError or LogUnavailable when none could be sent.
        """
        ...

    def close(self) -> None: ...


def blocking_calls(url: str, *, reply_seconds_max: float) -> BlockingCalls:
    if is_one_server(url):
        return _ToOneServer(url, reply_seconds_max)
    return _ToSeveral(url, reply_seconds_max)


class _ToOneServer:
    def __init__(self, url: str, reply_seconds_max: float) -> None:
        client = connect_blocking(url, reply_seconds_max=reply_seconds_max)
        self._redis = cast("Any", client)  # the stubs of redis-py know half of what it returns

    def send(self, calls: Sequence[Call]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*call.by_hash())
        replies = pipeline.execute(raise_on_error=False)
        return [
            self._redis.execute_command(*call.by_source())
            if isinstance(reply, NoScriptError)
            else reply
            for call, reply in zip(calls, replies, strict=True)
        ]

    def close(self) -> None:
        self._redis.close()


class _ToSeveral:
    def __init__(self, url: str, reply_seconds_max: float) -> None:
        seconds = reply_seconds_max
        self._redis = connect(url, patience=Patience(0, seconds, seconds, seconds))
        self._runner = asyncio.Runner()

    def send(self, calls: Sequence[Call]) -> list[Any]:
        return self._runner.run(run_many(self._redis, calls))

    def close(self) -> None:
        with self._runner:
            self._runner.run(self._redis.aclose())
