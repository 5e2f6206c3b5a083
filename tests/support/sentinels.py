"""A primary, its replica and three sentinels that watch it, on loopback."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Self, cast

import redis

from infra.local.machine import free_port
from infra.local.process import Child
from infra.local.valkey import answers, find_server
from tests.support.redis_cluster import Server, until

SERVICE = "headwater"
SENTINELS = 3
DOWN_AFTER_MS = 1000
CONFIG = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
daemonize no
sentinel sentinel-pass {password}
sentinel monitor {service} 127.0.0.1 {primary} 2
sentinel auth-pass {service} {server_password}
sentinel down-after-milliseconds {service} {down_after_ms}
sentinel failover-timeout {service} 6000
"""


class WatchedPrimary:
    """Servers and sentinels have passwords of their own."""

    def __init__(self, folder: Path, binary: Path | None = None) -> None:
        self.password, self.sentinel_password = secrets.token_hex(8), secrets.token_hex(8)
        self.servers = [
            Server(folder / f"server-{number}", self.password, more="", binary=binary)
            for number in range(2)
        ]
        self._folder, self._binary = folder, binary or find_server()
        self._ports = [free_port() for _ in range(SENTINELS)]
        self._sentinels: list[Child] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        of_sentinels = f"sentinel_password={self.sentinel_password}"
        return f"redis+sentinel://default:{self.password}@{hosts}/{SERVICE}/0?{of_sentinels}"

    @property
    def primary(self) -> Server:
        return next(server for server in self.servers if server.is_up and server.is_primary)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def taken_over(self, before: Server) -> None:
        """Wait until another is the primary, and a sentinel says so."""
        until(lambda: self._named(self._ports[0]) not in (0, before.port), "a successor")

    def fail_over(self) -> None:
        """Have the sentinels make the replica the primary."""
        with redis.Redis(port=self._ports[0], password=self.sentinel_password) as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)

    def is_deserted(self, server: Server) -> bool:
        """Whether none but sentinels, replicas and who asks is connected to it."""
        clients = server.ask("CLIENT", "LIST").decode().splitlines()
        return sum("name=sentinel-" not in one and " flags=S " not in one for one in clients) == 1

    def settled(self) -> None:
        """Wait until one is the primary, and the other follows it, as sentinels see it too."""

        def follows() -> bool:
            replicas = [server for server in self.servers if not server.is_primary]
            links = [replica.info("replication")["master_link_status"] for replica in replicas]
            return links == ["up"]

        until(follows, "the replica to follow")
        until(lambda: self._agreed(), "the sentinels to agree")

    def _agreed(self) -> bool:
        primary = self.primary.port
        return all(self._named(port) == primary for port in self._ports)

    def _named(self, port: int) -> int:
        """The port of the primary that this sentinel names; 0 when it does not see all."""
        with redis.Redis(port=port, password=self.sentinel_password) as sentinel:
            state = cast("Any", sentinel).sentinel_masters()[SERVICE]
            well = state["num-other-sentinels"] == SENTINELS - 1 and state["num-slaves"] == 1
            return state["port"] if well else 0

    def _start(self) -> None:
        primary, replica = self.servers
        primary.start()
        replica.start()
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        for port in self._ports:
            self._start_sentinel(port)
        self.settled()

    def _start_sentinel(self, port: int) -> None:
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            CONFIG.format(
                port=port,
                folder=folder,
                password=self.sentinel_password,
                service=SERVICE,
                primary=self.servers[0].port,
                server_password=self.password,
                down_after_ms=DOWN_AFTER_MS,
            )
        )
        command = (str(self._binary), str(config), "--sentinel")
        self._sentinels.append(Child(command, log=folder / "sentinel.log"))
        until(lambda: answers(port, self.sentinel_password), f"sentinel {port}")

    def _end(self) -> None:
        for sentinel in self._sentinels:
            sentinel.end()
        for server in self.servers:
            server.end()
