"""The gateway put together: adapters in, an application and its feed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.middleware import AbstractAuthenticationMiddleware, DefineMiddleware
from litestar.types import ASGIApp

from services.api.api_docs import BEARER, assets_route, openapi_config
from services.api.authentication import TokenVerifier, authentication_middleware
from services.api.feed import Feed
from services.api.health import Health
from services.api.jobs import JobsOfUser
from services.api.key_fetching import FetchedKeys
from services.api.messages import Messages
from services.api.post_message import Asking, JobsByKey
from services.api.problems import HANDLERS
from services.api.request_context import RequestContext
from services.api.routes import agents as agent_routes
from services.api.routes import health as health_routes
from services.api.routes import jobs as job_routes
from services.api.routes import messages as message_routes
from services.api.routes import participants as participant_routes
from services.api.routes import threads as thread_routes
from services.api.routes import tickets as ticket_routes
from services.api.routes.answers import Answers
from services.api.routes.json_bodies import JsonRequest
from services.api.routes.thread_views import ThreadViews
from services.api.threads import Threads
from services.api.unread import Unread
from services.api.tickets import TicketDesk
from shared.agents import Agent
from shared.archive import Archive
from shared.errors import SettingsError
from shared.event_log import EventLog
from shared.hot_state import HotState
from shared.idempotency import Claims
from shared.redis_client import Redis
from shared.settings import Settings
from shared.thread_log import ThreadLog
from shared.thread_stream import ThreadStream
from shared.tickets import Tickets

BODY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gateway:
    app: ASGIApp
    feed: Feed
    health: Health
    keys: FetchedKeys | None  # None: tokens are signed with the secret only


def assemble(
    settings: Settings, *, redis: Redis, archive: Archive, agents: Mapping[str, Agent]
) -> Gateway:
    """The gateway, from its adapters. The caller closes what it has handed in."""
    hot = HotState(redis, settings.partitions)
    history = ThreadStream(hot, archive)
    feed = Feed(redis, hot, history)
    keys = FetchedKeys(settings.auth_jwks_url) if settings.auth_jwks_url else None
    health = Health(redis, archive, feed, keys)
    tickets = Tickets(redis, settings.partitions)
    event_log = EventLog(redis, settings.partitions)
    thread_log = ThreadLog(redis, settings.partitions, idle_ttl_seconds=settings.idle_ttl_seconds)
    claims = Claims(redis, settings.partitions)
    threads = Threads(thread_log, hot, archive, claims)
    jobs = JobsOfUser(event_log, threads, hot, archive, history)
    messages = Messages(threads, hot, archive)
    asking = Asking(
        event_log,
        threads,
        JobsByKey(claims, hot, archive),
        agents=agents,
        queue_max=settings.queue_per_thread_max,
        question_of=messages.question_of,
    )
    provided: dict[str, Any] = {
        "threads": threads,
        "answers": Answers(asking, jobs, feed),
        "views": ThreadViews(Unread(hot, archive)),
        "messages": messages,
        "jobs": jobs,
        "feed": feed,
        "ticket_desk": TicketDesk(tickets, threads, jobs),
        "health": health,
        "agents": agents,
        "default_model": settings.llm_model,
    }
    authentication = authentication_middleware(_verifier(settings, keys), tickets)
    application = _application(settings, provided, authentication)
    return Gateway(RequestContext(application), feed, health, keys)


def _verifier(settings: Settings, keys: FetchedKeys | None) -> TokenVerifier:
    """Raises SettingsError when nothing could verify a token."""
    if settings.auth_secret is None and keys is None:
        raise SettingsError("neither HEADWATER_AUTH_SECRET nor HEADWATER_AUTH_JWKS_URL is set")
    return TokenVerifier(
        settings.auth_secret,
        keys,
        audience=settings.auth_audience,
        issuer=settings.auth_issuer,
    )


def _application(
    settings: Settings,
    provided: Mapping[str, Any],
    authentication: type[AbstractAuthenticationMiddleware],
) -> Litestar:
    of_users = Router(
        "/",
        route_handlers=[
            *thread_routes.HANDLERS,
            *participant_routes.HANDLERS,
            *message_routes.HANDLERS,
            *job_routes.HANDLERS,
            *agent_routes.HANDLERS,
            *ticket_routes.HANDLERS,
        ],
        request_class=JsonRequest,
        middleware=[DefineMiddleware(authentication)],
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
