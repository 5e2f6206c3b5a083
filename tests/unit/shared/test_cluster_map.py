"""Who has which slot, and which slot a command is about."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from shared.cluster_map import SLOTS, ClusterMap, Command, guarded, read_map, slot_of
from shared.keys import PartitionKeys

ASKED = ("10.0.0.1", 7000)
NODES = b"""\
a1 10.0.0.1:7000@17000,one myself,master - 0 0 4 connected 0-8191
b2 10.0.0.2:7000@17000 master - 0 1790000000000 9 connected 8192-16383 [5->-a1]
c3 10.0.0.3:7000@17000 slave b2 0 1790000000000 9 connected
"""
SLOT_RANGES: list[Any] = [
    [0, 8191, [b"", 7000, b"a1", []]],
    [8192, 16383, [b"10.0.0.2", 7000, b"b2"], [b"10.0.0.3", 7000, b"c3"]],
]


def the_map() -> ClusterMap:
    return read_map(SLOT_RANGES, NODES, told_by=ASKED)


def test_every_slot_has_its_owner_and_who_has_no_address_is_who_was_asked() -> None:
    found = the_map()
    assert found.owners[0] == found.owners[8191] == ASKED
    assert found.owners[8192] == found.owners[SLOTS - 1] == ("10.0.0.2", 7000)
    assert found.others == {("10.0.0.3", 7000)}


def test_a_state_is_another_in_another_epoch_and_with_other_slots() -> None:
    found = the_map()
    assert found.states[ASKED] == ("a1", 4, ((0, 8191),))
    assert found.epoch == 9
    later = read_map(SLOT_RANGES, NODES.replace(b" 4 connected", b" 5 connected"), told_by=ASKED)
    assert later.states[ASKED] != found.states[ASKED]


def test_a_slot_that_nobody_has_has_no_owner() -> None:
    found = read_map(SLOT_RANGES[:1], NODES, told_by=ASKED)
    assert found.owners[SLOTS - 1] is None


def test_the_metas_of_a_server_are_those_in_its_slots() -> None:
    found = the_map()
    mine, others = found.metas(ASKED), found.metas(("10.0.0.2", 7000))
    assert len(mine) + len(others) == 256
    assert PartitionKeys(1).meta in mine  # slot 3493
    assert PartitionKeys(2).meta in others  # slot 15814


@pytest.mark.parametrize(
    "command",
    [
        ("HGET", "{hw:3}:meta", "run"),
        ("XGROUP CREATE", "{hw:3}:log", "persisters", "0"),
        ("EVALSHA", "0a", 2, "{hw:3}:log", "{hw:3}:meta", "{hw:4}:argument"),
        ("EVAL", "return 1", 1, b"{hw:3}:log"),
        ("XREADGROUP", "GROUP", "g", "c", b"COUNT", 1, b"STREAMS", "{hw:3}:log", ">"),
        (b"XRANGE", "{hw:3}:dead", "-", "+"),
        ("SPUBLISH", "{hw:3}:thread:t", b"said"),
    ],
)
def test_the_slot_of_a_command_is_its_first_keys(command: Command) -> None:
    assert slot_of(command) == key_slot(b"hw:3")


def test_what_has_no_key_may_be_asked_of_anybody() -> None:
    assert slot_of(("PING",)) is None
    assert slot_of(("INFO", "server")) is None


def test_a_script_of_a_partition_names_the_key_that_is_never_there() -> None:
    call = ("EVALSHA", "0a", 2, "{hw:3}:log", "{hw:3}:meta", "first", "second")
    assert guarded(call) == (
        *("EVALSHA", "0a", 3, "{hw:3}:log", "{hw:3}:meta", "{hw:3}:absent"),
        *("first", "second"),
    )


@pytest.mark.parametrize(
    "command", [("EVALSHA", "0a", 1, "hw:rate:user:{hw:3}", 5), ("HGET", "{hw:3}:meta", "run")]
)
def test_nothing_else_does(command: Command) -> None:
    assert guarded(command) == command
