"""Every setting of every process: the only module that reads the environment.

Each field is the variable ``HEADWATER_<FIELD>`` in upper case; docs/settings.md is checked against
this class by a test. Settings are read once, in a process's ``__main__``, and handed down as
arguments.
"""

from __future__ import annotations

import os
import re
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import SettingsError

FILE_TYPES = "image/jpeg,image/png,image/webp,image/gif,application/pdf,text/plain"
PREFIX = "HEADWATER_"
PARTITIONS_MAX = 256  # ids carry the partition as two hexadecimal digits
RATE_MAX = 1_000_000  # a minute: what is left of a microsecond's precision
SECRET_BYTES_MIN = 32  # RFC 7518 §3.2: an HS256 key is at least as long as its hash

_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def default_consumer_name() -> str:
    """A name no other living process has: a consumer's pending entries are told apart by it."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(BaseSettings):
    """Validated settings. Times are seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True
    )

    redis_url: str | None = Field(
        None, description="Redis or Valkey, 7.0 or newer; also redis+cluster://, redis+sentinel://"
    )
    database_url: str | None = Field(None, description="PostgreSQL, as postgresql://…")
    database_connections: int = Field(
        8, ge=2, le=100, description="Connections to PostgreSQL of one process, at most"
    )
    database_pooled: bool = Field(
        False, description="Whether a pooler in transaction mode, as PgBouncer, stands in between"
    )
    host: str = Field("127.0.0.1", description="Address the gateway listens on")
    port: int = Field(8080, ge=0, le=65535, description="Port the gateway listens on")
    data_dir: Path = Field(Path(".headwater"), description="Where a local cluster keeps its data")
    partitions: int = Field(
        8, ge=1, le=PARTITIONS_MAX, description="Fixed for the life of a deployment"
    )

    llm_base_url: str | None = Field(None, description="OpenAI-compatible server, ending in /v1")
    llm_api_key: str | None = Field(None, description="Sent to the model server as a bearer token")
    llm_model: str = Field("smollm2-135m-instruct", description="Model of agents that name none")
    llm_connect_seconds: float = Field(
        5.0, gt=0, lt=86400, description="Bound on connecting to the model"
    )
    llm_timeout_seconds: float = Field(
        60.0, gt=0, lt=86400, description="Bound on the wait for a token"
    )
    llm_idle_seconds: float = Field(
        30.0, gt=0, lt=86400, description="Bound on the wait between two tokens"
    )
    llm_context_tokens: int = Field(
        1536, ge=64, description="Budget of the history handed to the model"
    )
    agents_file: Path | None = Field(None, description="JSON file of agents; none: one, `default`")

    auth_secret: str | None = Field(None, description="HS256 key of the callers' JWTs")
    auth_jwks_url: str | None = Field(
        None, description="The issuer's published keys (JWKS), https or on this machine"
    )
    auth_audience: str | None = Field(None, description="Required `aud`, when set")
    auth_issuer: str | None = Field(None, description="Required `iss`, when set")

    lease_seconds: float = Field(
        5.0, gt=0, lt=86400, description="A job without heartbeat is taken over"
    )
    heartbeat_seconds: float = Field(
        1.0, gt=0, lt=86400, description="Between two renewals of a lease"
    )
    attempts_max: int = Field(
        3, ge=1, description="Executions of a job before it fails, hand-overs apart"
    )
    jobs_per_worker: int = Field(64, ge=1, description="Jobs one orchestrator runs at once")
    job_deadline_seconds: float = Field(600.0, gt=0, lt=86400, description="Bound on one attempt")
    archive_days: int = Field(
        0, ge=0, le=36_500, description="Days for which events of jobs are kept; 0: for ever"
    )
    archive_period_days: int = Field(
        30, ge=1, le=366, description="Days of jobs that leave the archive together"
    )
    queue_per_thread_max: int = Field(32, ge=1, description="Messages waiting in one thread")
    idle_ttl_seconds: int = Field(
        3600, ge=1, description="Redis keeps an archived, idle thread or job this long"
    )
    rate_limit_per_minute: int = Field(
        12_000, ge=0, le=RATE_MAX, description="Requests of one user; 0: any number"
    )
    rate_limit_per_address: int = Field(
        0, ge=0, le=RATE_MAX, description="Requests a minute from one address; 0: any number"
    )
    jobs_per_user: int = Field(
        256, ge=0, le=1000, description="Jobs of one user that wait or run; 0: any number"
    )
    streams_per_user: int = Field(
        4096, ge=0, description="Streams one user has open; 0: any number"
    )
    files_url: str | None = Field(
        None, description="Store of files: s3://bucket/folder and the like; none: a local folder"
    )
    file_bytes_max: int = Field(10 * 1024 * 1024, ge=1, description="Bytes of one file")
    file_types: Annotated[tuple[str, ...], NoDecode] = Field(
        tuple(FILE_TYPES.split(",")), description="Comma-separated media types that are taken"
    )
    sockets_per_user: int = Field(
        256, ge=0, description="WebSockets one user has open; 0: any number"
    )
    sockets_per_gateway: int = Field(
        10_000, ge=1, description="WebSockets one gateway holds; more are refused"
    )
    ws_message_bytes_max: int = Field(
        65_536, ge=1024, le=1_048_576, description="The largest frame a WebSocket takes"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated addresses or networks whose X-Forwarded-For is believed"
    )
    drain_seconds: float = Field(
        15.0, gt=0, lt=86400, description="Bound on finishing work after SIGTERM"
    )

    consumer_name: str = Field(
        default_factory=default_consumer_name, description="Unique name of this process"
    )
    ready_file: Path | None = Field(None, description="Touched every second while ready")
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: str = Field("json", pattern="^(json|console)$", description="json or console")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated origins a browser may call from"
    )

    @field_validator("cors_origins", "trusted_proxies", "file_types", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in value:
            ip_network(proxy, strict=False)  # raises ValueError, naming it
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):  # what no browser sends would never match
                raise ValueError(f"{origin!r} is no origin: one looks like https://app.example")
        return value

    @field_validator("auth_secret")
    @classmethod
    def _long_enough(cls, value: str | None) -> str | None:
        if value is not None and len(value.encode()) < SECRET_BYTES_MIN:
            raise ValueError(f"needs at least {SECRET_BYTES_MIN} bytes")
        return value

    @field_validator("auth_jwks_url")
    @classmethod
    def _from_whom_it_says(cls, value: str | None) -> str | None:
        """Keys that came over plain HTTP from elsewhere could be anybody's."""
        if value is None:
            return None
        url = urlsplit(value)
        is_local = url.scheme == "http" and _is_loopback(url.hostname or "")
        if not (url.hostname and (url.scheme == "https" or is_local)):
            raise ValueError("needs to begin with https://, or with http:// and a loopback address")
        return value

    @field_validator("heartbeat_seconds")
    @classmethod
    def _several_beats_per_lease(cls, value: float, info: object) -> float:
        lease = getattr(info, "data", {}).get("lease_seconds", value * 3)
        if value * 3 > lease:
            raise ValueError("must be at most a third of HEADWATER_LEASE_SECONDS")
        return value

    @property
    def files_location(self) -> str | Path:
        """Where files are kept: a URL, or a folder."""
        return self.files_url or self.data_dir.absolute() / "files"

    def required(self, field: str) -> str:
        """The value of an optional setting that this process cannot do without.

        Raises SettingsError, naming the variable, when it is not set.
        """
        value = getattr(self, field)
        if value is None:
            raise SettingsError(f"{PREFIX}{field.upper()} is not set")
        return str(value)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read the environment. Raises SettingsError with one line per bad variable."""
    try:
        return Settings()  # pyright: ignore[reportCallIssue] -- fields come from the environment
    except ValidationError as error:
        lines = (
            f"{PREFIX}{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            for item in error.errors()
        )
        raise SettingsError("\n".join(lines)) from None
