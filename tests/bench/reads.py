"""`python -m tests.bench.reads --folder F`: lists, history and search over a populated archive.

A gateway answers over HTTP, with an empty Redis, as it does for threads nobody has touched for a
while. Prints a table; `--plans` keeps how Postgres answered one request of each kind.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.observability import configure_logging
from shared.postgres import create_engine
from shared.settings import Settings
from tests.bench.corpus import HEAVY, LIGHT, PARTITIONS
from tests.bench.languages import COMMON, KOREAN_PAIR, KOREAN_PHRASE, RARE, TOPIC
from tests.bench.populate import archive_in
from tests.integration.api.gateways import Running, running_gateway, settings_for
from tests.support.servers import empty_and_open, running_valkey

REQUESTS = 100  # of each kind
WARM = 5
SAMPLE = 100  # users and threads that are asked for in turn
EXECUTION = re.compile(r"Execution Time: ([0-9.]+) ms")
HEAD = (
    "| request | items | p50 ms | p99 ms | of it Postgres, once, ms |\n"
    "| --- | --- | --- | --- | --- |"
)
TABLES = ("events", "threads", "messages", "jobs")


@dataclass(frozen=True)
class Place:
    """A message in the middle of a thread."""

    user: str
    thread_id: str
    message_id: str


@dataclass
class Case:
    """One kind of request: who asks for what, in turn."""

    name: str
    requests: Iterator[tuple[str, str, Mapping[str, Any]]]  # user, path, parameters
    took: list[float] = field(default_factory=list[float])
    items: int = 0
    plans: list[str] = field(default_factory=list[str])

    @property
    def row(self) -> str:
        ordered = sorted(self.took)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        postgres = sum(float(took) for plan in self.plans for took in EXECUTION.findall(plan))
        return f"| {self.name} | {self.items} | {p50:.1f} | {p99:.1f} | {postgres:.1f} |"


def cases(users: list[str], places: dict[str, list[Place]]) -> list[Case]:
    def search(name: str, query: str, *who: str, **more: Any) -> Case:
        asked = (
            (user, "/v1/search/messages", {"q": query, **more}) for user in itertools.cycle(who)
        )
        return Case(f"search: {name}", asked)

    def history(name: str, of: str) -> Case:
        turns = itertools.cycle(places[of])
        path = "/v1/threads/{}/messages"
        return Case(
            f"history: {name}",
            ((p.user, path.format(p.thread_id), {"before": p.message_id}) for p in turns),
        )

    def threads(name: str, *who: str) -> Case:
        return Case(f"list: {name}", ((user, "/v1/threads", {}) for user in itertools.cycle(who)))

    return [
        threads("a user's threads", *users),
        threads("`heavy`'s threads", HEAVY),
        history("page of 50", "anybody"),
        history("page of 50 of `heavy`", HEAVY),
        search("rare word, `heavy`", RARE, HEAVY),
        search("rare word, users", RARE, *users),
        search("commonest word, `heavy`", COMMON, HEAVY),
        search("commonest word, users", COMMON, *users),
        search("commonest word, `light`", COMMON, LIGHT),
        search("two words, `heavy`", f"{TOPIC} {COMMON}", HEAVY),
        search("word that goes on, `heavy`", TOPIC[:3], HEAVY),
        search("word that goes on, users", TOPIC[:3], *users),
        search("two Korean characters, `heavy`", KOREAN_PAIR, HEAVY),
        search("two Korean characters, users", KOREAN_PAIR, *users),
        search("one Korean character, `heavy`", KOREAN_PAIR[0], HEAVY),
        search("Korean phrase, `heavy`", KOREAN_PHRASE, HEAVY),
        search("commonest word, one thread", COMMON, HEAVY, thread_id=places[HEAVY][0].thread_id),
    ]


async def sample(engine: AsyncEngine) -> tuple[list[str], dict[str, list[Place]], str]:
    """Users and places by chance, and how much there is."""
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        rows = await connection.execute(text("SELECT DISTINCT owner FROM threads ORDER BY owner"))
        users = [owner for (owner,) in rows if owner not in (HEAVY, LIGHT)]
        query = text(
            "SELECT threads.owner, thread_id, max(message_id) FROM threads JOIN messages"
            " USING (thread_id) WHERE (owner = :heavy) = :of_heavy AND messages.position > 20"
            " GROUP BY threads.owner, thread_id LIMIT :count"
        )
        places: dict[str, list[Place]] = {}
        for name in ("anybody", HEAVY):
            wanted = {"heavy": HEAVY, "of_heavy": name == HEAVY, "count": SAMPLE}
            found = (await connection.execute(query, wanted)).all()
            places[name] = [Place(*row) for row in found]
    return random.Random(1).sample(users, SAMPLE), places, await _sizes(engine)


async def _sizes(engine: AsyncEngine) -> str:
    lines: list[str] = []
    async with engine.connect() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        for table in TABLES:
            count = await connection.scalar(text(f"SELECT count(*) FROM {table}"))
            sizes = text(
                "SELECT pg_size_pretty(pg_table_size(:t)), pg_size_pretty(pg_indexes_size(:t))"
            )
            data, indexes = (await connection.execute(sizes, {"t": table})).one()
            lines.append(f"| `{table}` | {count:,} | {data} | {indexes} |")
        term = text("SELECT pg_size_pretty(pg_relation_size('messages_by_term'))")
        lines.append(f"| `messages_by_term` | | | {await connection.scalar(term)} |")
        heavy = text("SELECT count(*) FROM messages WHERE asker = :who AND role IS NOT NULL")
        for who in (HEAVY, LIGHT):
            count = await connection.scalar(heavy, {"who": who})
            lines.append(f"| messages of `{who}` | {count:,} | | |")
    return "\n".join(["| table | rows | data | indexes |", "| --- | --- | --- | --- |", *lines])


class Measuring:
    def __init__(self, gateway: Running, engine: AsyncEngine) -> None:
        self._gateway, self._engine = gateway, engine
        self._clients: dict[str, Any] = {}

    async def run(self, case: Case) -> None:
        for number in range(WARM + REQUESTS):
            user, path, params = next(case.requests)
            took, items = await self._ask(user, path, params)
            if number >= WARM:
                case.took.append(took)
                case.items = max(case.items, items)
        with Statements() as statements:
            await self._ask(*next(case.requests))
        for statement, parameters in statements:
            case.plans.append(await self._plan(statement, parameters))

    async def _ask(self, user: str, path: str, params: Mapping[str, Any]) -> tuple[float, int]:
        """Milliseconds, and how many items the answer has."""
        if user not in self._clients:
            self._clients[user] = self._gateway.client(user)
        began = time.perf_counter()
        answer = await self._clients[user].ok("GET", path, params=params)
        return (time.perf_counter() - began) * 1000, len(answer["items"])

    async def _plan(self, statement: str, parameters: Any) -> str:
        async with self._engine.connect() as connection:
            explain = f"EXPLAIN (ANALYZE, BUFFERS) {statement}"
            await connection.exec_driver_sql("SET LOCAL jit = off")
            rows = await connection.exec_driver_sql(explain, parameters)
            return "\n".join(line for (line,) in rows)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()


class Statements:
    """Collects what is sent to Postgres while the block runs."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, Any]] = []

    def _hear(self, *said: Any) -> None:
        _, _, statement, parameters, _, _ = said
        if statement.startswith("SELECT") and "FROM " in statement:
            self._heard.append((statement, parameters))

    def __enter__(self) -> list[tuple[str, Any]]:
        event.listen(Engine, "before_cursor_execute", self._hear)
        return self._heard

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._hear)


@asynccontextmanager
async def _measuring(settings: Settings) -> AsyncGenerator[tuple[Measuring, AsyncEngine]]:
    engine = create_engine(settings.required("database_url"), application="bench")
    async with running_gateway(settings) as gateway:
        measuring = Measuring(gateway, engine)
        yield measuring, engine
        await measuring.close()
    await engine.dispose()


async def measure(settings: Settings) -> str:
    """Prints the figures; the plans."""
    async with _measuring(settings) as (measuring, engine):
        async with engine.connect() as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("ANALYZE"))
            await connection.commit()
        users, places, sizes = await sample(engine)
        sys.stdout.write(f"{sizes}\n\n{HEAD}\n")
        kept: list[str] = []
        for case in cases(users, places):
            await measuring.run(case)
            sys.stdout.write(f"{case.row}\n")
            sys.stdout.flush()
            kept += [f"## {case.name}", *(f"```text\n{plan}\n```" for plan in case.plans)]
        return "\n\n".join(kept) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--plans", type=Path)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="headwater-reads-") as folder,
        running_valkey(Path(folder)) as valkey,
        archive_in(asked.folder) as database_url,
    ):
        empty_and_open(valkey.url)
        settings = settings_for(valkey.url, database_url, partitions=PARTITIONS, log_level="ERROR")
        configure_logging(settings, service="bench")
        plans = asyncio.run(measure(settings))
    if asked.plans is not None:
        asked.plans.write_text(plans)


if __name__ == "__main__":
    main()
