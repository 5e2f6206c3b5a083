"""Redis and PostgreSQL from images, as parts of a cluster that are kept like those from wheels.

A server gets the settings of the embedded one. Its data lie in the same folder of this machine,
mounted where they are, and belong to who runs the tests; so whatever looks at them, or cuts them
off, need not know. The engine must therefore be this machine's own.

Failures: a container cannot be started: PartError, as for any part. Everything else: see
container_engine.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from docker.errors import DockerException
from requests.exceptions import RequestException
from testcontainers.core.container import DockerContainer

from infra.local import postgres
from infra.local.errors import PartError
from infra.local.part import MakeServer, Part
from infra.local.valkey import valkey_part
from tests.support.container_life import ContainerLife

POSTGRES_PORT = 5432
SHARED_MEMORY = "256m"  # parallel queries: an engine's 64 MiB are less than a machine has


@dataclass(frozen=True, kw_only=True)
class InContainer:
    """Launches parts from an image, with their command in the place of the image's."""

    image: str
    folder: Path
    port: int  # on 127.0.0.1 of this machine
    port_inside: int
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # of the engine

    def __call__(self, part: Part) -> ContainerLife:
        container = DockerContainer(self.image, env=dict(self.env))
        container.with_command(list(part.command))
        container.with_volume_mapping(str(self.folder), str(self.folder), "rw")
        container.with_kwargs(**self.options)
        # The engine's client takes an address too, which the library's type does not know.
        container.ports[f"{self.port_inside}/tcp"] = cast("Any", ("127.0.0.1", self.port))
        try:
            return ContainerLife(container, part.log)
        except (DockerException, RequestException) as error:
            raise PartError(part.name, f"no container of {self.image}: {error}") from error


def redis_in(image: str) -> MakeServer:
    """Makes a Redis from an image with redis-server, or valkey-server if it is named after that."""
    server = "valkey-server" if "valkey" in image else "redis-server"

    def make(folder: Path, port: int, password: str, *, log: Path) -> Part:
        part = valkey_part(folder, port, password, log=log, binary=Path(server))
        _, config = part.command
        launch = InContainer(
            image=image,
            folder=folder,
            port=port,
            port_inside=port,
            # Not the image's entry point, which would give the folder to another user.
            options={"entrypoint": [server], "user": f"{os.getuid()}:{os.getgid()}"},
        )
        return replace(part, command=(config, "--bind", "0.0.0.0"), launch=launch)

    return make


def postgres_in(image: str) -> MakeServer:
    """Makes a PostgreSQL from an image that follows the official one."""
    settings = {**postgres.SETTINGS, "listen_addresses": "*"}
    del settings["unix_socket_directories"]  # by which the image makes the database

    def make(folder: Path, port: int, password: str, *, log: Path) -> Part:
        launch = InContainer(
            image=image,
            folder=folder,
            port=port,
            port_inside=POSTGRES_PORT,
            env={
                "POSTGRES_USER": postgres.NAME,
                "POSTGRES_PASSWORD": password,
                "POSTGRES_INITDB_ARGS": "--encoding=UTF8 --locale=C.UTF-8",
                "PGDATA": str(folder),
            },
            options={"shm_size": SHARED_MEMORY, **_ordinary_user()},
        )
        return Part(
            name="postgres",
            command=("postgres", *postgres.as_arguments(settings)),
            log=log,
            prepare=lambda: folder.mkdir(mode=0o700, parents=True, exist_ok=True),
            launch=launch,
            ready=lambda: postgres.answers(postgres.postgres_url(port, password)),
            ready_seconds_max=postgres.READY_SECONDS_MAX,
            stop_signal=postgres.STOP_SIGNAL,
        )

    return make


def _ordinary_user() -> Mapping[str, str]:
    """PostgreSQL does not run as root: then the image gives the folder to a user of its own."""
    return {} if os.getuid() == 0 else {"user": f"{os.getuid()}:{os.getgid()}"}
