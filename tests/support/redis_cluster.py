"""A Redis Cluster on loopback: three primaries, a replica of each, made by CLUSTER commands alone.

with RedisCluster(folder) as servers:
    servers.url                              # redis+cluster://…
    servers.kill(servers.primary_of(meta))   # kill -9; its replica takes over by itself
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import redis
from redis.crc import key_slot

from infra.local.machine import free_port
from infra.local.process import Child
from infra.local.valkey import answers, find_server

PRIMARIES = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 1500
READY_SECONDS_MAX = 60.0
HAND_OVER_SECONDS_MAX = 6.0  # a replica tries for five
STEP_SECONDS = 0.02
BUS = 10_000  # behind the port

CONFIG = """\
bind 127.0.0.1
port {port}
cluster-port {bus}
dir "{folder}"
requirepass {password}
masterauth {password}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
io-threads 1
repl-diskless-sync-delay 0
{more}"""
CLUSTER = f"""\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout {NODE_TIMEOUT_MS}
# A replica is there to take over, however long it has heard nothing.
cluster-replica-validity-factor 0
# The slots of one server may be away without those of the others being so.
cluster-require-full-coverage no
"""


class Server:
    """One server and its process."""

    def __init__(self, folder: Path, password: str, *, more: str, binary: Path | None) -> None:
        self.port, self.bus = free_port(), free_port()
        self.folder, self._password = folder, password
        self._binary = binary or find_server()
        self._more = more
        self._child: Child | None = None

    def start(self) -> None:
        """Start it, again with what it has on disk; returns when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.conf"
        config.write_text(
            CONFIG.format(
                port=self.port,
                bus=self.bus,
                folder=self.folder,
                password=self._password,
                more=self._more,
            )
        )
        command = (str(self._binary), str(config))
        self._child = Child(command, log=self.folder / "server.log")
        until(lambda: answers(self.port, self._password), f"server {self.port}")

    @property
    def is_up(self) -> bool:
        return self._child is not None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def end(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.end()
            self._child = None

    @contextmanager
    def client(self) -> Generator[Any]:
        with redis.Redis(port=self.port, password=self._password) as client:
            yield cast("Any", client)

    def ask(self, *command: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            return client.info(section)

    @property
    def node_id(self) -> str:
        return self.ask("CLUSTER", "MYID").decode()

    @property
    def is_primary(self) -> bool:
        return self.info("replication")["role"] == "master"


class RedisCluster:
    """``servers``: the first PRIMARIES begin as primaries, each followed by its replica at the same
    place of the second half."""

    def __init__(self, folder: Path, *, replicas: bool = True, binary: Path | None = None) -> None:
        self.password = secrets.token_hex(8)
        count = PRIMARIES * (2 if replicas else 1)
        self.servers = [
            Server(folder / f"server-{number}", self.password, more=CLUSTER, binary=binary)
            for number in range(count)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:PRIMARIES])
        return f"redis+cluster://default:{self.password}@{hosts}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def primary_of(self, key: str) -> Server:
        """The server that has a key's slot, as most see it."""
        slot = key_slot(key.encode())
        seen = [owner for server in self.up if (owner := _owner(server, slot))]
        assert seen, f"nobody has slot {slot}"
        port = max(set(seen), key=seen.count)
        return next(server for server in self.servers if server.port == port)

    def replica_of(self, primary: Server) -> Server:
        """A replica that follows this primary and has all it sends."""
        for server in self.up:
            facts = server.info("replication")
            if facts["role"] == "slave" and facts["master_port"] == primary.port:
                return server
        raise AssertionError(f"server {primary.port} has no replica")

    @property
    def up(self) -> list[Server]:
        return [server for server in self.servers if server.is_up]

    def settled(self) -> None:
        """Wait until all slots have a server that is well, and each primary a replica."""
        for server in self.up:
            until(lambda s=server: _is_well(s), f"server {server.port} to see the cluster well")
        until(lambda: len({_slots(server) for server in self.up}) == 1, "one view")

    def taken_over(self, replica: Server) -> None:
        """Wait until it is a primary."""
        until(lambda: replica.is_primary, f"server {replica.port} to take over")

    def hand_over(self, replica: Server) -> None:
        """Make its primary hand over to it. The answer to the command comes before it begins; and
        who has just become a primary may not know its replica yet, which then waits in vain."""
        asked_at = time.monotonic() - 2 * HAND_OVER_SECONDS_MAX

        def has_taken_over() -> bool:
            nonlocal asked_at
            if time.monotonic() - asked_at > HAND_OVER_SECONDS_MAX and not replica.is_primary:
                replica.ask("CLUSTER", "FAILOVER")
                asked_at = time.monotonic()
            return replica.is_primary

        until(has_taken_over, f"server {replica.port} to be handed over to")
        self.settled()

    def deafen(self, replica: Server) -> None:
        """Let a replica hear no more of its primary, which goes on."""
        with replica.client() as client:
            client.config_set("masterauth", "wrong")
        self._primary_of(replica).ask("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: _link(replica) == "down", f"server {replica.port} to be deaf")

    def hear_again(self, server: Server) -> None:
        with server.client() as client:
            client.config_set("masterauth", self.password)

    def _primary_of(self, replica: Server) -> Server:
        port = replica.info("replication")["master_port"]
        return next(server for server in self.servers if server.port == port)

    def _start(self) -> None:
        for server in self.servers:
            server.start()
        primaries, replicas = self.servers[:PRIMARIES], self.servers[PRIMARIES:]
        for number, server in enumerate(primaries):
            first, behind = (SLOTS * at // PRIMARIES for at in (number, number + 1))
            server.ask("CLUSTER", "ADDSLOTSRANGE", first, behind - 1)
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        meeting = self.servers[0]
        for server in self.servers[1:]:
            meeting.ask("CLUSTER", "MEET", "127.0.0.1", server.port, server.bus)
        until(lambda: all(_knows(s, len(self.servers)) for s in self.servers), "all to meet")
        for replica, primary in zip(replicas, primaries, strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.node_id)
        self.settled()

    def _end(self) -> None:
        for server in self.servers:
            server.end()


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until it holds; a server that does not answer is one for which it does not."""
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            if holds():
                return
        except (redis.RedisError, OSError):
            pass
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(STEP_SECONDS)


def _link(replica: Server) -> str:
    return replica.info("replication")["master_link_status"]


def _knows(server: Server, count: int) -> bool:
    return int(_info(server)["cluster_known_nodes"]) == count


def _is_well(server: Server) -> bool:
    facts = server.info("replication")
    follows = facts["role"] == "master" or facts["master_link_status"] == "up"
    info = _info(server)
    return follows and info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS


def _info(server: Server) -> dict[str, str]:
    text = server.ask("CLUSTER", "INFO")
    if isinstance(text, dict):
        return text
    lines = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: value.strip() for name, value in lines}


def _slots(server: Server) -> str:
    return repr(sorted((first, last, owner[1]) for first, last, owner, *_ in _ranges(server)))


def _owner(server: Server, slot: int) -> int | None:
    for first, last, owner, *_ in _ranges(server):
        if first <= slot <= last:
            return owner[1]
    return None


def _ranges(server: Server) -> Any:
    return server.ask("CLUSTER", "SLOTS")
