"""The gateway put together: adapters in, an application and its feed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp

from services.api.api_docs import BEARER, assets_route, openapi_config
from services.api.authentication import TokenVerifier, authentication_middleware
from services.api.feed import Feed
from services.api.health import Health
from services.api.jobs import JobsOfUser
from services.api.messages import Messages
from services.api.post_message import Asking
from services.api.problems import HANDLERS
from services.api.request_context import RequestContext
from services.api.routes import agents as agent_routes
from services.api.routes import health as health_routes
from services.api.routes import jobs as job_routes
from services.api.routes import messages as message_routes
from services.api.routes import search as search_routes
from services.api.routes import threads as thread_routes
from services.api.routes.answers import Answers
from services.api.routes.json_bodies import JsonRequest
from services.api.search import Search
from services.api.threads import Threads
from shared.agents import Agent
from shared.archive import Archive
from shared.event_log import EventLog
from shared.hot_state import HotState
from shared.redis_client import Redis
from shared.settings import Settings
from shared.thread_log import ThreadLog
from shared.thread_stream import ThreadStream

BODY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gateway:
    app: ASGIApp
    feed: Feed
    health: Health


def assemble(
    settings: Settings, *, redis: Redis, archive: Archive, agents: Mapping[str, Agent]
) -> Gateway:
    """The gateway, from its adapters. The caller closes what it has handed in."""
    hot = HotState(redis, settings.partitions)
    history = ThreadStream(hot, archive)
    feed = Feed(redis, hot, history)
    health = Health(redis, archive, feed)
    event_log = EventLog(redis, settings.partitions)
    thread_log = ThreadLog(redis, settings.partitions, idle_ttl_seconds=settings.idle_ttl_seconds)
    threads = Threads(thread_log, hot, archive)
    jobs = JobsOfUser(event_log, hot, archive, history)
    asking = Asking(
        event_log,
        threads,
        agents=agents,
        partitions=settings.partitions,
        queue_max=settings.queue_per_thread_max,
    )
    provided: dict[str, Any] = {
        "threads": threads,
        "answers": Answers(asking, jobs, feed),
        "messages": Messages(threads, hot, archive),
        "search": Search(threads, hot, archive),
        "jobs": jobs,
        "feed": feed,
        "health": health,
        "agents": agents,
        "default_model": settings.llm_model,
    }
    return Gateway(RequestContext(_application(settings, provided)), feed, health)


def _application(settings: Settings, provided: Mapping[str, Any]) -> Litestar:
    verifier = TokenVerifier(
        settings.required("auth_secret"),
        audience=settings.auth_audience,
        issuer=settings.auth_issuer,
    )
    of_users = Router(
        "/",
        route_handlers=[
            *thread_routes.HANDLERS,
            *message_routes.HANDLERS,
            *job_routes.HANDLERS,
            *agent_routes.HANDLERS,
            *search_routes.HANDLERS,
        ],
        request_class=JsonRequest,
        middleware=[DefineMiddleware(authentication_middleware(verifier))],
        security=BEARER,
    )
    origins = list(settings.cors_origins)
    return Litestar(
        route_handlers=[of_users, *health_routes.HANDLERS, assets_route()],
        dependencies={name: _provide(value) for name, value in provided.items()},
        exception_handlers=HANDLERS,
        openapi_config=openapi_config(),
        cors_config=CORSConfig(allow_origins=origins) if origins else None,
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
    )


def _provide(value: Any) -> Provide:
    async def provided() -> Any:
        return value

    return Provide(provided)
