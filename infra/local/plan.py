"""What a local cluster shall consist of, and the parts that follow from it.

    valkey ───────────────┐
    postgres ─▶ migrate ──┼─▶ persister-1 …, orchestrator-1 …, api-1 …
    model ────────────────┘

A server whose address is given is not started. Parts stop in the reverse of their order here, so
that what the gateways accepted is finished, and what was finished is archived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infra.local.model import model_part, model_url
from infra.local.part import MakeServer, Part
from infra.local.postgres import postgres_part, postgres_url
from infra.local.services import gateway, migrate_part, service_part
from infra.local.state import Identity
from infra.local.valkey import valkey_part, valkey_url
from shared.settings import Settings

FIRST_GATEWAY = "api-1"
SERVERS = ("valkey", "postgres", "model")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`port` is the first gateway's (0: any that is free), further ones take free ports.

    `env` goes to every service, on top of this process's own environment, and `env_of[NAME]` to one
    service or, by its kind, to all of a kind. `redis_server` is a server to run instead of Valkey;
    `make_redis` and `make_postgres` make these servers in another way than from wheels.
    `launcher` is a module that runs the services and the migration: its first argument names them.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    apis: int = 1
    orchestrators: int = 1
    persisters: int = 1
    redis_url: str | None = None
    database_url: str | None = None
    llm_base_url: str | None = None
    auth_secret: str | None = None
    redis_server: Path | None = None
    make_redis: MakeServer = valkey_part
    make_postgres: MakeServer = postgres_part
    launcher: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    env_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    @classmethod
    def from_settings(
        cls, settings: Settings, *, apis: int = 1, orchestrators: int = 1, persisters: int = 1
    ) -> Plan:
        """The plan that the settings of this process ask for."""
        return cls(
            data_dir=settings.data_dir.absolute(),
            host=settings.host,
            port=settings.port,
            apis=apis,
            orchestrators=orchestrators,
            persisters=persisters,
            redis_url=settings.redis_url,
            database_url=settings.database_url,
            llm_base_url=settings.llm_base_url,
            auth_secret=settings.auth_secret,
        )

    @property
    def service_names(self) -> list[str]:
        """In the order of the data's way back: who reads comes before who writes."""
        counts = (
            ("persister", self.persisters),
            ("orchestrator", self.orchestrators),
            ("api", self.apis),
        )
        return [f"{kind}-{number}" for kind, count in counts for number in range(1, count + 1)]

    @property
    def own_servers(self) -> list[str]:
        """The servers that are started because no address was given for them."""
        given = (self.redis_url, self.database_url, self.llm_base_url)
        return [name for name, url in zip(SERVERS, given, strict=True) if url is None]

    @property
    def own_ports(self) -> list[str]:
        """Who needs a port to be chosen for it."""
        gateways = [name for name in self.service_names if name.startswith("api-")]
        chosen_by_hand = {FIRST_GATEWAY} if self.port else set[str]()
        return [*self.own_servers, *(name for name in gateways if name not in chosen_by_hand)]

    def log_of(self, name: str) -> Path:
        """Where a part's output goes."""
        return self.data_dir / "logs" / f"{name}.log"

    def gateway_port(self, name: str, identity: Identity) -> int:
        """The port a gateway listens on."""
        return self.port if self.port and name == FIRST_GATEWAY else identity.ports[name]


def settings_for(plan: Plan, identity: Identity) -> dict[str, str]:
    """The HEADWATER_ variables of every process that takes part in the cluster."""
    ports = identity.ports
    return {
        **plan.env,
        "HEADWATER_REDIS_URL": plan.redis_url
        or valkey_url(ports["valkey"], identity.secret("valkey")),
        "HEADWATER_DATABASE_URL": plan.database_url
        or postgres_url(ports["postgres"], identity.secret("postgres")),
        "HEADWATER_LLM_BASE_URL": plan.llm_base_url or model_url(ports["model"]),
        "HEADWATER_AUTH_SECRET": plan.auth_secret or identity.secret("auth"),
        "HEADWATER_HOST": plan.host,
        "HEADWATER_PORT": str(plan.gateway_port(FIRST_GATEWAY, identity)),
        "HEADWATER_DATA_DIR": str(plan.data_dir),
    }


def parts_for(plan: Plan, identity: Identity) -> list[Part]:
    """Every part, each after those it needs. Raises PartError when one cannot be run here."""
    servers = [_server(name, plan, identity) for name in plan.own_servers]
    needs_schema = ("postgres",) if "postgres" in plan.own_servers else ()
    env = settings_for(plan, identity)
    log = plan.log_of("migrate")
    of_migrate = {**env, **plan.env_of.get("migrate", {})}
    migrate = migrate_part(of_migrate, log=log, after=needs_schema, launcher=plan.launcher)
    services = [_service(name, plan, identity, env) for name in plan.service_names]
    return [*servers, migrate, *services]


def _server(name: str, plan: Plan, identity: Identity) -> Part:
    port, log = identity.ports[name], plan.log_of(name)
    if name == "model":
        return model_part(port, log=log)
    secret = identity.secret(name)
    if name == "postgres":
        return plan.make_postgres(plan.data_dir / "postgres", port, secret, log=log)
    binary = plan.redis_server
    make_redis = partial(valkey_part, binary=binary) if binary else plan.make_redis
    return make_redis(plan.data_dir / "redis", port, secret, log=log)


def _service(name: str, plan: Plan, identity: Identity, env: Mapping[str, str]) -> Part:
    kind = name.rpartition("-")[0]
    part = service_part(
        name,
        {**env, **plan.env_of.get(kind, {}), **plan.env_of.get(name, {})},
        log=plan.log_of(name),
        ready_file=plan.data_dir / "ready" / name,
        after=(*plan.own_servers, "migrate"),
        launcher=plan.launcher,
    )
    return gateway(part, plan.gateway_port(name, identity)) if kind == "api" else part
