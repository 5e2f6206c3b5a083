"""/v1/tickets"""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, SkipValidation

from services.api.bodies import CreateTicket
from services.api.routes.documented import refusals
from services.api.routes.json_bodies import takes_json
from services.api.schemas import TicketView
from services.api.tickets import TicketDesk


@post(
    "/v1/tickets",
    summary="Get a one-use ticket for the streams of a thread or a job",
    guards=[takes_json],
    responses=refusals("not_found", "archive_unavailable", body=True),
)
async def create_ticket(
    request: Request[Any, Any, Any],
    data: JSONBody[CreateTicket],
    ticket_desk: NamedDependency[SkipValidation[TicketDesk]],
) -> Response[TicketView]:
    if data.thread_id is not None:
        made = await ticket_desk.for_thread(request.user, data.thread_id)
    else:
        made = await ticket_desk.for_job(request.user, data.job_id or "")
    view = TicketView(ticket=made.ticket, expires_in=made.expires_in)
    return Response(view, headers={"Cache-Control": "no-store"})


HANDLERS = [create_ticket]
