"""Moves the slot of a key to another primary while it is in use: at once, or key by key."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from redis.crc import key_slot

from tests.support.redis_cluster import RedisCluster, Server, until

KEYS_PER_MOVE = 4
MOVE_MS_MAX = 5000
BETWEEN_SECONDS = 0.05  # between two moves: the slot is in two places for a while


def moves_at_once(servers: RedisCluster) -> bool:
    help_lines = servers.up[0].ask("CLUSTER", "HELP")
    return any(b"MIGRATESLOTS" in line for line in help_lines)


def move_at_once(servers: RedisCluster, key: str) -> None:
    """Valkey 9: the target follows the slot as a replica does, then has it."""
    source, target, slot = _plan(servers, key)
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.node_id)
    until(lambda: servers.primary_of(key) is target, f"slot {slot} to arrive")
    servers.settled()


def move_key_by_key(servers: RedisCluster, key: str) -> None:
    """As redis-cli --cluster reshard does."""
    source, target, slot = _plan(servers, key)
    _begin(source, target, slot)
    _go_on(servers, source, target, slot)


@contextmanager
def half_moved(servers: RedisCluster, key: str) -> Generator[None]:
    """In the block a key is with the target already, all others of its slot with the source."""
    source, target, slot = _plan(servers, key)
    _begin(source, target, slot)
    _move(servers, source, target, [key])
    yield
    _go_on(servers, source, target, slot)


def _left(source: Server, slot: int) -> Iterator[list[bytes]]:
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, KEYS_PER_MOVE):
        yield keys


def _begin(source: Server, target: Server, slot: int) -> None:
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)


def _go_on(servers: RedisCluster, source: Server, target: Server, slot: int) -> None:
    for keys in _left(source, slot):
        _move(servers, source, target, keys)
        time.sleep(BETWEEN_SECONDS)
    third = [one for one in servers.up if one.is_primary and one not in (source, target)]
    for server in (target, source, *third):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)
    servers.settled()


def _move(
    servers: RedisCluster, source: Server, target: Server, keys: Sequence[bytes | str]
) -> None:
    source.ask(
        *("MIGRATE", "127.0.0.1", target.port, "", 0, MOVE_MS_MAX),
        *("AUTH", servers.password, "KEYS", *keys),
    )


def _plan(servers: RedisCluster, key: str) -> tuple[Server, Server, int]:
    source = servers.primary_of(key)
    target = next(one for one in servers.up if one.is_primary and one is not source)
    return source, target, key_slot(key.encode())
