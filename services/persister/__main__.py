"""Settings into adapters, adapters into the persister, and run it."""

from __future__ import annotations

import sys

import uvloop

from services.persister.app import assemble
from services.persister.consumer import make_broker
from shared.errors import HeadwaterError
from shared.garbage import collect_rarely
from shared.lifecycle import run_service
from shared.observability import configure_logging
from shared.postgres import Database, create_engine
from shared.redis_client import connect
from shared.settings import Settings, load_settings


async def serve(settings: Settings) -> int:
    redis_url = settings.required("redis_url")
    redis = connect(redis_url)
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(database, application="persister")
    broker = make_broker(redis_url, drain_seconds=settings.drain_seconds)
    try:
        service = assemble(settings, redis=redis, broker=broker, engine=engine)
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
        configure_logging(settings, service="persister")
        return uvloop.run(serve(settings))
    except HeadwaterError as error:
        sys.stderr.write(f"persister: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
