"""Who is there: /v1/threads/{thread_id}/presence and /v1/sessions"""

from __future__ import annotations

from typing import Any

from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation

from services.api.device_views import PresencePage, PresentView, SessionPage, SessionView
from services.api.devices import Devices
from services.api.presence import Attendances
from services.api.routes.documented import refusals
from services.api.threads import Threads
from shared.times import rfc3339


@get(
    "/v1/threads/{thread_id:str}/presence",
    summary="See who has a socket open in a thread",
    responses=refusals("not_found", "archive_unavailable"),
)
async def get_presence(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    threads: NamedDependency[SkipValidation[Threads]],
    attendances: NamedDependency[SkipValidation[Attendances]],
) -> PresencePage:
    await threads.get(request.user.user, thread_id)
    sessions: dict[str, set[str]] = {}
    for member in await attendances.of(thread_id):
        sessions.setdefault(member.user, set()).add(member.session_id)
    return PresencePage(
        items=[
            PresentView(user=user, session_ids=sorted(names))
            for user, names in sorted(sessions.items())
        ]
    )


@get(
    "/v1/sessions",
    summary="List one's own devices of the last two hours, the last used first",
    responses=refusals(),
)
async def list_sessions(
    request: Request[Any, Any, Any], devices: NamedDependency[SkipValidation[Devices]]
) -> SessionPage:
    return SessionPage(
        items=[
            SessionView(session_id=session.session_id, used_at=rfc3339(session.used_at))
            for session in await devices.of(request.user.user)
        ]
    )


HANDLERS = [get_presence, list_sessions]
