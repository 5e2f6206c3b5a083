"""What a client gets for a question: 202 and where to look, or the stream itself."""

from __future__ import annotations

from typing import Any

from litestar import Response

from services.api.feed import Feed
from services.api.jobs import JobsOfUser
from services.api.schemas import AcceptedView
from services.api.sse import event_stream, job_stream
from shared.event_log import Accepted


async def answer_of(
    user: str, accepted: Accepted, jobs: JobsOfUser, feed: Feed, *, stream: bool
) -> Response[Any]:
    location = {"Location": f"/v1/jobs/{accepted.job_id}"}
    if not stream:
        view = AcceptedView(
            message_id=accepted.message_id,
            job_id=accepted.job_id,
            thread_id=accepted.thread_id,
            trace_id=accepted.trace_id,
        )
        return Response(view, status_code=202, headers=location)
    job = await jobs.get(user, accepted.job_id)
    return event_stream(job_stream(feed, job, after=0), headers=location)
