"""What a client gets for a question: 202 and where to look, or the stream itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from litestar import Response

from services.api.authentication import Caller
from services.api.feed import Feed
from services.api.follower import Follower
from services.api.jobs import JobsOfUser
from services.api.post_message import Asking, Question
from services.api.schemas import AcceptedView
from services.api.sse import asked_stream, event_stream, job_stream
from services.api.stream_leases import StreamLeases
from services.api.viewing import Viewer
from shared.event_log import Accepted
from shared.idempotency import Idempotency


class Answers:
    def __init__(self, asking: Asking, jobs: JobsOfUser, feed: Feed, streams: StreamLeases) -> None:
        self._asking, self._jobs, self._feed, self._streams = asking, jobs, feed, streams

    async def to(
        self, caller: Caller, question: Question, idempotency: Idempotency | None, *, stream: bool
    ) -> Response[Any]:
        """Ask, and answer with the job's ids or, with ``stream``, with its events."""
        if stream:
            return await self._streamed(caller, question, idempotency)
        accepted = await self._asking.ask(caller, question, idempotency)
        view = AcceptedView(
            message_id=accepted.message_id,
            job_id=accepted.job_id,
            thread_id=accepted.thread_id,
            trace_id=accepted.trace_id,
        )
        return Response(view, status_code=202, headers=_location(accepted))

    async def _streamed(
        self, caller: Caller, question: Question, idempotency: Idempotency | None
    ) -> Response[Any]:
        """Nothing is asked unless there is room for the stream.

        Who listens before it asks has heard all, and reads nothing. A repeat has asked before.
        """
        lease = await self._streams.open(caller.user)
        with ExitStack() as refused, ExitStack() as listening:
            refused.enter_context(lease)
            followers: list[Follower] = []

            def listen(thread_id: str) -> None:
                followers.append(listening.enter_context(self._feed.listen(thread_id)))

            accepted = await self._asking.ask(caller, question, idempotency, planned=listen)
            viewer = Viewer(caller, lambda: self._jobs.may_follow(caller.user, accepted.thread_id))
            if accepted.first is None:
                job = await self._jobs.get(caller.user, accepted.job_id)
                events = job_stream(self._feed, job, after=0, viewer=viewer, lease=lease)
            else:
                job_id, first = accepted.job_id, accepted.first
                kept = listening.pop_all()
                events = asked_stream(kept, followers[0], job_id, first, viewer, lease)
            refused.pop_all()  # the stream closes it
        return await event_stream(events, headers=_location(accepted))


def _location(accepted: Accepted) -> dict[str, str]:
    return {"Location": f"/v1/jobs/{accepted.job_id}"}
