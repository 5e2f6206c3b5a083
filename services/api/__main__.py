"""Settings into adapters, adapters into the gateway, and serve it."""

from __future__ import annotations

import sys

import uvloop

from services.api.app import assemble
from services.api.server import GatewayService
from shared.agents import load_agents
from shared.archive import Archive
from shared.errors import HeadwaterError
from shared.garbage import collect_rarely
from shared.lifecycle import run_service
from shared.observability import configure_logging
from shared.postgres import Database, create_engine
from shared.redis_client import HASTY, connect
from shared.settings import Settings, load_settings


async def serve(settings: Settings) -> int:
    redis = connect(settings.required("redis_url"), patience=HASTY)
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(database, application="api")
    try:
        gateway = assemble(
            settings,
            redis=redis,
            archive=Archive(engine),
            agents=load_agents(settings.agents_file),
        )
        service = GatewayService(
            gateway,
            redis=redis,
            partitions=settings.partitions,
            host=settings.host,
            port=settings.port,
            trusted_proxies=settings.trusted_proxies,
        )
        collect_rarely()
        return await run_service(
            service, ready_file=settings.ready_file, drain_seconds=settings.drain_seconds
        )
    finally:
        await engine.dispose()
        await redis.aclose()


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings, service="api")
        return uvloop.run(serve(settings))
    except HeadwaterError as error:
        sys.stderr.write(f"api: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
