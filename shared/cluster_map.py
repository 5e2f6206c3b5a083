"""Which server of a Redis Cluster has which slot, as one of them tells; and the slot of a command.

A server's *state* names what must be the same for what was once found out about it to hold: its id,
the epoch of its configuration, which every failover and every migration raises, and its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from redis.crc import key_slot

from shared.keys import PartitionKeys, guard_of
from shared.redis_urls import Address
from shared.settings import PARTITIONS_MAX

SLOTS: Final = 16384
KEYLESS: Final = frozenset({"PING", "INFO", "TIME", "SCRIPT FLUSH"})
SCRIPTED: Final = frozenset({"EVAL", "EVALSHA"})

State = tuple[str, int, tuple[tuple[int, int], ...]]
Command = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ClusterMap:
    owners: Sequence[Address | None]  # by slot
    states: Mapping[Address, State]  # of those who own slots
    others: frozenset[Address]  # replicas

    @property
    def epoch(self) -> int:
        """The newest anybody has: of two maps, the one with the lower is out of date."""
        return max((epoch for _, epoch, _ in self.states.values()), default=0)

    def metas(self, address: Address) -> list[str]:
        """The ``meta`` keys of the partitions that a server may have, whether there are so many."""
        return [meta for meta, slot in _metas() if self.owners[slot] == address]


def read_map(slots: Sequence[Any], nodes: bytes, *, told_by: Address) -> ClusterMap:
    """From the replies to CLUSTER SLOTS, which knows how clients reach whom, and CLUSTER NODES,
    which knows the epochs."""
    epochs = {line.split()[0]: int(line.split()[6]) for line in nodes.decode().splitlines() if line}
    owners: list[Address | None] = [None] * SLOTS
    ranges: dict[Address, list[tuple[int, int]]] = {}
    ids: dict[Address, str] = {}
    others: set[Address] = set()
    for first, last, owner, *replicas in slots:
        address = _address(owner, told_by)
        ids[address] = owner[2].decode()
        ranges.setdefault(address, []).append((first, last))
        owners[first : last + 1] = [address] * (last + 1 - first)
        others.update(_address(replica, told_by) for replica in replicas)
    states = {
        address: (node_id, epochs.get(node_id, 0), tuple(sorted(ranges[address])))
        for address, node_id in ids.items()
    }
    return ClusterMap(owners, states, frozenset(others - ids.keys()))


def slot_of(command: Command) -> int | None:
    """The slot of a command's first key; None when any server may answer it."""
    name = command[0]
    if name in KEYLESS:
        return None
    if name in SCRIPTED:
        return key_slot(_bytes(command[3]))
    if name == "XREADGROUP":
        return key_slot(_bytes(command[_position(command, b"STREAMS") + 1]))
    return key_slot(_bytes(command[1]))


def guarded(command: Command) -> Command:
    """A script with one more key: one that is never there (``keys.guard_of``)."""
    if command[0] not in SCRIPTED:
        return command
    guard = guard_of(command[3])
    if guard is None:
        return command
    behind = 3 + command[2]
    return (*command[:2], command[2] + 1, *command[3:behind], guard, *command[behind:])


@cache
def _metas() -> list[tuple[str, int]]:
    metas = [PartitionKeys(partition).meta for partition in range(PARTITIONS_MAX)]
    return [(meta, key_slot(meta.encode())) for meta in metas]


def _address(node: Sequence[Any], told_by: Address) -> Address:
    """Who does not know its own address is the one that was asked, or its neighbour."""
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else told_by[0]), int(node[1])


def _position(command: Command, word: bytes) -> int:
    return next(index for index, part in enumerate(command) if part == word)


def _bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key
