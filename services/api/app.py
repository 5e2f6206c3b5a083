"""The gateway put together: adapters in, an application and its feed out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.middleware import AbstractAuthenticationMiddleware, DefineMiddleware
from litestar.plugins.pydantic import PydanticPlugin
from litestar.types import ASGIApp

from services.api.answer_fields import AnswerFields, methods_by_template
from services.api.api_docs import BEARER, assets_route, openapi_config
from services.api.authentication import TokenVerifier, authentication_middleware
from services.api.cross_origin import CrossOrigin
from services.api.device_tracking import tracking
from services.api.devices import Devices
from services.api.feed import Feed
from services.api.files import FileLimits, Files
from services.api.health import Health
from services.api.job_limit import JobLimit
from services.api.jobs import JobsOfUser
from services.api.key_fetching import FetchedKeys
from services.api.lenient import Lenient
from services.api.messages import Messages
from services.api.metrics import Metrics
from services.api.post_message import Asking, JobsByKey, Lookups
from services.api.presence import Attendances
from services.api.problems import HANDLERS
from services.api.rate_limiting import CallerLimit, StrangerLimit, around
from services.api.request_context import RequestContext
from services.api.request_limits import RequestLimits
from services.api.routes import agents as agent_routes
from services.api.routes import files as file_routes
from services.api.routes import health as health_routes
from services.api.routes import jobs as job_routes
from services.api.routes import messages as message_routes
from services.api.routes import metrics as metrics_routes
from services.api.routes import participants as participant_routes
from services.api.routes import presence as presence_routes
from services.api.routes import search as search_routes
from services.api.routes import sockets as socket_routes
from services.api.routes import threads as thread_routes
from services.api.routes import tickets as ticket_routes
from services.api.routes.answers import Answers
from services.api.routes.json_bodies import JsonRequest
from services.api.routes.thread_views import ThreadViews
from services.api.search import Search
from services.api.socket_door import SocketDoor
from services.api.socket_requests import SocketRequests
from services.api.sockets import Company, Sockets
from services.api.stream_leases import StreamLeases
from services.api.threads import Threads
from services.api.tickets import TicketDesk
from services.api.unread import Unread
from services.api.upload_file import Uploading
from shared.agents import Agent
from shared.archive import Archive
from shared.backlog import Backlog
from shared.errors import SettingsError
from shared.event_log import EventLog
from shared.file_store import FileStore
from shared.hot_state import HotState
from shared.idempotency import Claims
from shared.presence import Presence
from shared.quotas import Quotas
from shared.redis_client import Redis
from shared.sessions import Sessions
from shared.settings import Settings
from shared.thread_log import ThreadLog
from shared.thread_stream import ThreadStream
from shared.tickets import Tickets

BODY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Gateway:
    app: ASGIApp
    feed: Feed
    streams: StreamLeases
    company: Company
    health: Health
    keys: FetchedKeys | None  # None: tokens are signed with the secret only
    socket_bytes_max: int


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
    event_log, thread_log = _logs(settings, redis)
    quotas, lenient = Quotas(redis), Lenient()
    streams, company = _leases(settings, redis, quotas, lenient)
    claims = Claims(redis, settings.partitions)
    threads = Threads(thread_log, hot, archive, claims)
    jobs = JobsOfUser(event_log, threads, hot, archive, history)
    messages = Messages(threads, hot, archive)
    files = _files(settings, threads, hot, archive)
    asking = Asking(
        event_log, threads, JobsByKey(claims, hot, archive),
        JobLimit(quotas, per_user=settings.jobs_per_user), agents=agents,
        queue_max=settings.queue_per_thread_max,
        lookups=Lookups(messages.question_of, files.attachments),
    )  # fmt: skip
    limits = _limits(settings, quotas, lenient)
    readings = _readings(feed, streams, company, lenient)
    metrics = Metrics(Backlog(redis, settings.partitions), readings)
    provided: dict[str, Any] = {
        "threads": threads,
        "answers": Answers(asking, jobs, feed, streams),
        "views": ThreadViews(Unread(hot, archive)),
        "messages": messages,
        "files": files,
        "uploading": Uploading(files, threads, asking, claims, hot),
        "search": Search(threads, hot, archive),
        "jobs": jobs,
        "feed": feed,
        "sockets": Sockets(threads, jobs, feed, SocketRequests(asking, jobs, limits), company),
        "attendances": company.attendances,
        "devices": company.devices,
        "ticket_desk": TicketDesk(tickets, threads, jobs),
        "streams": streams,
        "metrics": metrics,
        "health": health,
        **_of_models(settings, agents),
    }
    authentication = authentication_middleware(_verifier(settings, keys), tickets)
    application = _application(settings, limits, provided, authentication)
    app = RequestContext(_answering(settings, application), metrics)
    return Gateway(app, feed, streams, company, health, keys, settings.ws_message_bytes_max)


def _of_models(settings: Settings, agents: Mapping[str, Agent]) -> dict[str, Any]:
    return {"agents": agents, "default_model": settings.llm_model}


def _logs(settings: Settings, redis: Redis) -> tuple[EventLog, ThreadLog]:
    ttl_seconds = settings.idle_ttl_seconds
    threads = ThreadLog(redis, settings.partitions, idle_ttl_seconds=ttl_seconds)
    return EventLog(redis, settings.partitions), threads


def _leases(
    settings: Settings, redis: Redis, quotas: Quotas, lenient: Lenient
) -> tuple[StreamLeases, Company]:
    streams = StreamLeases(quotas, lenient, per_user=settings.streams_per_user)
    return streams, Company(
        StreamLeases(quotas, lenient, per_user=settings.sockets_per_user, kind="sockets"),
        Attendances(Presence(redis, settings.partitions), lenient),
        Devices(Sessions(redis), lenient),
        sockets_max=settings.sockets_per_gateway,
    )


def _files(settings: Settings, threads: Threads, hot: HotState, archive: Archive) -> Files:
    limits = FileLimits(settings.file_bytes_max, settings.file_types)
    return Files(threads, hot, archive, FileStore(settings.files_location), limits=limits)


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


def _limits(settings: Settings, quotas: Quotas, lenient: Lenient) -> RequestLimits:
    return RequestLimits(
        quotas,
        lenient,
        per_user=settings.rate_limit_per_minute,
        per_address=settings.rate_limit_per_address,
    )


def _readings(
    feed: Feed, streams: StreamLeases, company: Company, lenient: Lenient
) -> dict[str, tuple[str, Callable[[], float]]]:
    return {
        "headwater_streams_open": ("Streams of clients", lambda: streams.open_count),
        "headwater_sockets_open": ("WebSockets of clients", lambda: company.places.open_count),
        "headwater_followers": ("Places in threads that are followed", lambda: feed.follower_count),
        "headwater_followers_behind": (
            "Of these, how many must read before they are level",
            lambda: feed.behind_count,
        ),
        "headwater_threads_followed": ("Threads with a follower", lambda: feed.thread_count),
        "headwater_uncounted_requests": (
            "Passed a limit since the start because Redis did not say",
            lambda: lenient.uncounted,
        ),
    }


def _application(
    settings: Settings,
    limits: RequestLimits,
    provided: Mapping[str, Any],
    authentication: type[AbstractAuthenticationMiddleware],
) -> Litestar:
    of_users = Router(
        "/",
        route_handlers=[
            *thread_routes.HANDLERS,
            *participant_routes.HANDLERS,
            *message_routes.HANDLERS,
            *file_routes.HANDLERS,
            *job_routes.HANDLERS,
            *agent_routes.HANDLERS,
            *ticket_routes.HANDLERS,
            *search_routes.HANDLERS,
            *presence_routes.HANDLERS,
            *socket_routes.HANDLERS,
        ],
        request_class=JsonRequest,
        middleware=[
            DefineMiddleware(SocketDoor, origins=settings.cors_origins),
            around(StrangerLimit, limits),
            DefineMiddleware(authentication),
            around(CallerLimit, limits),
            tracking(provided["devices"]),
        ],
        security=BEARER,
    )
    return Litestar(
        route_handlers=[
            of_users,
            *health_routes.HANDLERS,
            *metrics_routes.HANDLERS,
            assets_route(),
        ],
        dependencies={name: _provide(value) for name, value in provided.items()},
        exception_handlers=HANDLERS,
        openapi_config=openapi_config(),
        plugins=[PydanticPlugin(validate_strict=True)],  # 1 is no truth, and "1" no number
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
    )


def _answering(settings: Settings, application: Litestar) -> ASGIApp:
    """The application, with what every answer carries."""
    methods = methods_by_template(application)
    return AnswerFields(CrossOrigin(application, settings.cors_origins), methods)


def _provide(value: Any) -> Provide:
    async def provided() -> Any:
        return value

    return Provide(provided)
