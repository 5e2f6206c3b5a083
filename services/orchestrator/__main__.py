"""Settings into adapters, adapters into the orchestrator, and run it."""

from __future__ import annotations

import sys

import aiohttp
import uvloop

from services.orchestrator.app import assemble
from services.orchestrator.consumer import make_broker
from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from services.orchestrator.titles import TITLES_AT_ONCE_MAX
from shared.agents import load_agents
from shared.archive import Archive
from shared.errors import HeadwaterError, SettingsError
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
    engine = create_engine(database, application="orchestrator")
    try:
        connections_max = settings.jobs_per_worker + TITLES_AT_ONCE_MAX
        async with open_session(connections_max=connections_max) as session:
            model = _model(settings, session)
            service = assemble(
                settings,
                redis=redis,
                broker=make_broker(redis_url),
                archive=Archive(engine),
                model=model,
                agents=load_agents(settings.agents_file),
            )
            collect_rarely()
            return await run_service(
                service,
                ready_file=settings.ready_file,
                drain_seconds=settings.drain_seconds,
                hurry=service.hurry,
            )
    finally:
        await engine.dispose()
        await redis.aclose()


def _model(settings: Settings, session: aiohttp.ClientSession) -> OpenAICompatibleModel:
    limits = ModelLimits(
        connect_seconds=settings.llm_connect_seconds,
        first_token_seconds=settings.llm_timeout_seconds,
        between_tokens_seconds=settings.llm_idle_seconds,
    )
    base_url, api_key = settings.required("llm_base_url"), settings.llm_api_key
    try:
        return OpenAICompatibleModel(session, base_url=base_url, api_key=api_key, limits=limits)
    except ValueError as error:
        raise SettingsError(f"HEADWATER_LLM_BASE_URL or _API_KEY: {error}") from None


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings, service="orchestrator")
        return uvloop.run(serve(settings))
    except HeadwaterError as error:
        sys.stderr.write(f"orchestrator: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
