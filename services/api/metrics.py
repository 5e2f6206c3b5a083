"""What the gateway counts, and what it shows of the partitions, as Prometheus reads it.

Labels have few values: methods, routes (never paths), statuses, problem codes, partitions. Nothing
names a user, a thread or an address. The partitions' figures are Redis' and the same on every
gateway; they are looked up when somebody asks, once in FRESH_SECONDS at most.

Failures
    Redis away, slow   After LOOK_SECONDS_MAX the page comes without those figures, and says
                       ``headwater_redis_up 0``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from services.api.problems import CODES
from shared.backlog import Backlog, PartitionBacklog
from shared.errors import LogUnavailable

LOOK_SECONDS_MAX: Final = 1.0
FRESH_SECONDS: Final = 1.0
SECONDS_BUCKETS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE: Final = "none"

Reading = Callable[[], float]


class Metrics:
    """One per gateway, with a registry of its own."""

    def __init__(self, backlog: Backlog, readings: Mapping[str, tuple[str, Reading]]) -> None:
        """``readings`` are gauges that are read when somebody asks: name → (what it is, read)."""
        self._backlog = backlog
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "headwater_http_requests",
            "Requests that were answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "headwater_http_response_start_seconds",
            "From a request's head to its answer's; how long a stream then lasts is not in it",
            ("method", "route"),
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "headwater_http_problems", "Problems, by code", ("code",), registry=self._registry
        )
        for code in CODES:
            self._refusals.labels(code)
        for name, (what, read) in readings.items():
            Gauge(name, what, registry=self._registry).set_function(read)
        self._partitions = _PartitionGauges(self._registry)
        ProcessCollector(registry=self._registry)
        self._looking = asyncio.Lock()
        self._looked = float("-inf")

    def count(
        self, *, method: str, route: str | None, status: int, code: str | None, seconds: float
    ) -> None:
        """A request was answered; ``seconds`` from its head to the answer's."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route or NO_ROUTE, status).inc()
        self._seconds.labels(method, route or NO_ROUTE).observe(seconds)
        if code is not None:
            self._refusals.labels(code).inc()

    async def page(self) -> bytes:
        """All of it, in Prometheus' text format."""
        async with self._looking:
            if time.monotonic() - self._looked >= FRESH_SECONDS:
                self._partitions.show(await self._look())
                self._looked = time.monotonic()
        return generate_latest(self._registry)

    async def _look(self) -> list[PartitionBacklog] | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX):
                return await self._backlog.look()
        except (LogUnavailable, TimeoutError):
            return None


class _PartitionGauges:
    """The figures of the partitions; none while nobody knows them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, what: str) -> Gauge:
            return Gauge(name, what, ("partition",), registry=registry)

        self._redis_up = Gauge(
            "headwater_redis_up", "Whether Redis answered this page", registry=registry
        )
        self._gauges = {
            "commands_waiting": gauge("headwater_commands_waiting", "Jobs that no worker has"),
            "commands_pending": gauge("headwater_commands_pending", "Jobs that workers hold"),
            "log_entries": gauge("headwater_log_entries", "Events that are not archived"),
            "log_pending": gauge("headwater_log_pending", "Events in a persister's batch"),
            "log_seconds": gauge("headwater_log_seconds", "Age of the oldest unarchived event"),
            "dead_letters": gauge("headwater_dead_letters", "What was given up on"),
            "is_open": gauge("headwater_partition_open", "Whether it takes writes"),
        }

    def show(self, backlog: list[PartitionBacklog] | None) -> None:
        self._redis_up.set(backlog is not None)
        for name, gauge in self._gauges.items():
            gauge.clear()
            for partition in backlog or ():
                gauge.labels(partition.partition).set(getattr(partition, name))
