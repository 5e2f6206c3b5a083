"""WebSockets: a thread's feed in frames, and what its client asks for on the way.

    client ──▶ listen: frame ──▶ use case ──▶ answer ─┐
       ▲                                             ├──▶ wire ──▶ client
       └─── show: follower ──▶ events and signals ────┘

Two tasks share the wire, whose sends are whole frames. Each waits while the client's buffer is
full: the one that listens then reads nothing more, and the one that shows leaves what comes to its
follower, whose buffer is bounded and which reads what ran over once there is room. So a socket
holds no queue of its own, and a slow one costs what a slow stream does.

Failures
    Client slow, gone, silent   The connection's to find out (socket_connections.py).
    Stores away                 The feed waits for them; frames that need them are answered with an
                                error. A client that must be told more than is known is sent away.
    Gateway drains, token ends,
    viewer taken out            Closed with a code that says whether to come back.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Protocol

from services.api.client_frames import (
    BadFrame,
    Frame,
    PingFrame,
    ResumeFrame,
    TypingFrame,
    read_frame,
)
from services.api.close_codes import (
    DEFECT,
    FLOODING,
    GONE,
    OF_PROBLEMS,
    RESTARTING,
    TOKEN_OVER,
    Close,
)
from services.api.cursors import event_cursor
from services.api.devices import Devices
from services.api.feed import Feed
from services.api.follower import Follower
from services.api.frames import (
    accepted_frame,
    error_frame,
    logged_frame,
    pong_frame,
    welcome_frame,
)
from services.api.jobs import JobsOfUser
from services.api.presence import Attendances
from services.api.problems import BadRequest, TooManyRequests
from services.api.socket_requests import SocketRequests, Visit, refusal_of
from services.api.stream_leases import Lease, StreamLeases
from services.api.threads import Threads
from services.api.typing_notices import TypingNotices
from services.api.viewing import WHOLE_THREAD, End, Viewer, Viewing
from shared.cancellation import end_tasks
from shared.codec import Record, decode_event
from shared.errors import ArchiveUnavailable, HeadwaterError, LogUnavailable, TooManySockets
from shared.events import MessagePosted
from shared.presence import Member

FRAMES_PER_SECOND_MAX: Final = 20  # of a client, lastingly
FRAMES_AT_ONCE_MAX: Final = 200
STOP_SECONDS_MAX: Final = 2.0
_CLOSES: Final = {
    End.OVER: GONE,
    End.TAKEN_OUT: GONE,
    End.EXPIRED: TOKEN_OVER,
    End.AGAIN: RESTARTING,
}


class ClientGone(Exception):
    """The connection has ended: nothing can be sent any more."""


class Wire(Protocol):
    async def receive(self) -> str | None:
        """The next frame's text; None when no more will come."""
        ...

    async def send(self, frame: bytes) -> None:
        """Waits while the client takes nothing. Raises ClientGone."""
        ...

    async def close(self, close: Close) -> None:
        """Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Company:
    """What the sockets of a process share, and how many of them there may be."""

    places: StreamLeases
    attendances: Attendances
    devices: Devices
    sockets_max: int

    async def open(self, user: str) -> Lease:
        """A place for one more. Raises TooManySockets."""
        lease = await self.places.open(user)
        if self.places.open_count > self.sockets_max:
            self.places.close(lease)
            raise TooManySockets("This gateway holds as many sockets as it may.")
        return lease


class Sockets:
    """One per process: who may open a socket, and what each works with."""

    def __init__(
        self,
        threads: Threads,
        jobs: JobsOfUser,
        feed: Feed,
        requests: SocketRequests,
        company: Company,
    ) -> None:
        self.threads, self.jobs, self.feed = threads, jobs, feed
        self.requests, self.company = requests, company

    async def serve(self, wire: Wire, visit: Visit, *, after: str | None) -> None:
        """One socket, from its first frame to its close."""
        try:
            place = event_cursor(None, after)
            thread = await self.threads.reached(visit.caller.user, visit.thread_id, place)
            lease = await self.company.open(visit.caller.user)
        except (HeadwaterError, BadRequest) as error:
            told = refusal_of(error)
            await wire.close(Close(OF_PROBLEMS + told.status, told.code))
            return
        with lease:
            await _Socket(self, wire, visit, thread.position).run(place)


class _Socket:
    def __init__(self, sockets: Sockets, wire: Wire, visit: Visit, position: int) -> None:
        self._sockets, self._wire, self._visit = sockets, wire, visit
        self._position = position  # of the thread, when the client came
        self._member = Member(visit.caller.user, visit.session_id, visit.socket_id)
        self._follower: Follower | None = None
        self._resumes: list[ResumeFrame] = []
        self._replies: dict[str, str] = {}  # of jobs that are open: the ids of their answers
        self._pace = _Pace()
        self._typing = TypingNotices(sockets.company.attendances, visit)

    async def run(self, after: int) -> None:
        """Until the client goes, or has to. Raises what is a defect, with the socket closed."""
        showing = asyncio.create_task(self._show(after), name="socket.show")
        try:
            await self._listen()
        except ClientGone:
            pass
        finally:
            await end_tasks([showing], seconds_max=STOP_SECONDS_MAX)
            self._sockets.company.attendances.leave(self._visit.thread_id, self._member)
            await self._typing.stop()
        if showing.done() and not showing.cancelled():
            showing.result()

    # ── what the client sends ──────────────────────────────────────────────────────────────────

    async def _listen(self) -> None:
        while (text := await self._wire.receive()) is not None:
            if not self._pace.has_room():
                await self._wire.close(FLOODING)
                return
            try:
                answer = await self._answer(read_frame(text))
            except BadFrame as bad:
                answer = error_frame(bad.frame_id, bad.told)
            if answer is not None:
                await self._wire.send(answer)

    async def _answer(self, frame: Frame) -> bytes | None:
        match frame:
            case PingFrame():
                return pong_frame(frame.id)
            case TypingFrame():
                await self._typing.say(is_typing=frame.is_typing)
                return None
            case ResumeFrame():
                return await self._resume(frame)
            case _:
                return await self._sockets.requests.answer(self._visit, frame)

    async def _resume(self, frame: ResumeFrame) -> bytes | None:
        """Whoever shows starts anew, and says so in its turn."""
        visit = self._visit
        try:
            await self._sockets.requests.count(visit)
            await self._sockets.threads.reached(visit.caller.user, visit.thread_id, frame.after)
        except (HeadwaterError, BadRequest, TooManyRequests) as error:
            return error_frame(frame.id, refusal_of(error))
        self._resumes.append(frame)
        if self._follower is not None:
            self._follower.end()
        return None

    # ── what the client is shown ───────────────────────────────────────────────────────────────

    async def _show(self, after: int) -> None:
        close = DEFECT
        try:
            close = await self._shown(after)
        except ClientGone:
            return
        except (LogUnavailable, ArchiveUnavailable):
            close = RESTARTING
        finally:
            if not _is_cancelled():
                await self._wire.close(close)

    async def _shown(self, after: int) -> Close:
        feed, thread_id = self._sockets.feed, self._visit.thread_id
        is_met = False
        while True:
            with feed.follow(thread_id, after=after, hears=True) as self._follower:
                if not is_met:
                    is_met = True
                    await self._welcome()
                end = await self._view(self._follower)
            if not self._resumes or end is not End.AGAIN:
                return _CLOSES[end]
            for frame in self._resumes:
                after = frame.after
                await self._wire.send(accepted_frame(frame.id, after=after))
            self._resumes.clear()

    async def _welcome(self) -> None:
        """Signals are heard before others are met: who comes later is not missed."""
        await self._sockets.feed.subscribed(self._visit.thread_id)
        met = await self._sockets.company.attendances.enter(self._visit.thread_id, self._member)
        users = sorted({member.user for member in met})
        me = self._member
        await self._wire.send(welcome_frame(me.user, me.session_id, users, self._position))

    async def _view(self, follower: Follower) -> End:
        caller, threads = self._visit.caller, self._sockets.threads
        viewer = Viewer(caller, lambda: threads.may_follow(caller.user, self._visit.thread_id))
        viewing = Viewing(follower, WHOLE_THREAD, viewer)
        with viewing:
            while viewing.end is None:
                await self._sockets.company.devices.seen(caller)
                for record in await viewing.next():
                    await self._wire.send(logged_frame(record, await self._reply_id(record)))
                for signal in follower.take_signals():
                    if signal.sender != self._visit.socket_id:
                        await self._wire.send(signal.data)
        return viewing.end

    async def _reply_id(self, record: Record) -> str | None:
        """Of a job's event: the id of the answer it belongs to. Raises as the stores do."""
        if record.stream == self._visit.thread_id:
            if record.type == "message.posted":
                posted = decode_event(record.data)
                if isinstance(posted, MessagePosted):
                    self._replies[posted.job_id] = posted.reply_id
            return None
        known = self._replies.get(record.stream) or await self._sockets.jobs.reply_id(record.stream)
        if known is not None:
            self._replies[record.stream] = known
        if record.is_final:
            self._replies.pop(record.stream, None)
        return known


class _Pace:
    """So many frames at once, and as many a second in the long run."""

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        self._full_at = 0.0

    def has_room(self) -> bool:
        now = time.monotonic()
        self._full_at = max(self._full_at, now) + 1 / FRAMES_PER_SECOND_MAX
        return self._full_at - now <= FRAMES_AT_ONCE_MAX / FRAMES_PER_SECOND_MAX


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
