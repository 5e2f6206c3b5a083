"""Settings into adapters, adapters into the orchestrator, and run it."""

from __future__ import annotations

import sys

import uvloop

from services.orchestrator.app import assemble
from services.orchestrator.model_limits import ModelLimits
from services.orchestrator.openai_compatible import OpenAICompatibleModel, open_session
from shared.agents import load_agents
from shared.archive import Archive
from shared.errors import HeadwaterError
from shared.lifecycle import run_service
from shared.observability import configure_logging
from shared.postgres import create_engine
from shared.redis_client import connect
from shared.settings import Settings, load_settings


async def serve(settings: Settings) -> int:
    redis = connect(settings.required("redis_url"))
    engine = create_engine(settings.required("database_url"), application="orchestrator")
    limits = ModelLimits(
        connect_seconds=settings.llm_connect_seconds,
        first_token_seconds=settings.llm_timeout_seconds,
        between_tokens_seconds=settings.llm_idle_seconds,
    )
    try:
        async with open_session(connections_max=settings.jobs_per_worker) as session:
            model = OpenAICompatibleModel(
                session,
                base_url=settings.required("llm_base_url"),
                api_key=settings.llm_api_key,
                limits=limits,
            )
            service = assemble(
                settings,
                redis=redis,
                archive=Archive(engine),
                model=model,
                agents=load_agents(settings.agents_file),
            )
            return await run_service(
                service, ready_file=settings.ready_file, drain_seconds=settings.drain_seconds
            )
    finally:
        await engine.dispose()
        await redis.aclose()


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
