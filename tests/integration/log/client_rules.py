"""What clients do to the log: post, perhaps twice, cancel, rename, delete, load what was let go."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, initialize, multiple, precondition, rule

from shared.commands import RunJob
from shared.errors import (
    NotFound,
    NotTheOwner,
    OwnerStays,
    QueueFull,
    ThreadBusy,
    ThreadCrowded,
)
from shared.events import (
    MessageDeleted,
    ParticipantJoined,
    ParticipantLeft,
    ThreadCreated,
    ThreadDeleted,
    ThreadRead,
    ThreadUpdated,
)
from shared.ids import partition_of_thread
from shared.log_protocol import ThreadNotLoaded
from shared.thread_log import Thread
from tests.integration.log.driven_log import (
    PARTITIONS,
    THREADS,
    DrivenLog,
    guests,
    posts,
    threads,
    users,
)
from tests.support.log_server import AT, QUEUE_MAX
from tests.support.log_state import Post

REFUSALS: dict[type[Exception], str] = {
    ThreadNotLoaded: "NO_THREAD",
    NotFound: "NO_ACCESS",
    ThreadBusy: "BUSY",
    QueueFull: "FULL",
    NotTheOwner: "NOT_OWNER",
    OwnerStays: "OWNER_STAYS",
    ThreadCrowded: "CROWDED",
}
post_options = st.fixed_dictionaries(
    {
        "on_busy": st.sampled_from(["enqueue", "enqueue", "reject", "interrupt"]),
        "create": st.sampled_from([True, True, False]),
        "content": st.sampled_from(["a", "line\nbreak"]),
    }
)


class ClientRules(DrivenLog):
    def __init__(self) -> None:
        super().__init__()
        self.commands: dict[str, RunJob] = {}

    @initialize(
        target=posts, repeats=st.booleans(), options=st.lists(post_options, min_size=1, max_size=4)
    )
    def begin_with_some_messages(
        self, repeats: bool, options: list[dict[str, Any]]
    ) -> MultipleResults[Post]:
        self.redis.repeats = False
        self.run(self.clean())
        self.redis.repeats = repeats
        results = [self.post(THREADS[0], "alice", option) for option in options]
        return multiple(*(post for post in results if isinstance(post, Post)))

    @rule(thread=threads, user=users)
    def create_thread(self, thread: str, user: str) -> None:
        known = self.model.threads.get(thread)
        if known is not None and not known.is_kept:
            return  # the archive has it: nobody makes it again
        self.model.create(thread, user)
        created = ThreadCreated(thread_id=thread, at=AT, owner=user)
        assert self.run(self.server.threads.create_thread(created)) == AT

    @rule(target=posts, thread=threads, user=users, options=post_options)
    def post(self, thread: str, user: str, options: dict[str, Any]) -> Post | MultipleResults[Post]:
        known = self.model.threads.get(thread)
        number = len(self.commands)
        partition = partition_of_thread(thread, PARTITIONS)
        post = Post(
            job_id=f"job_{partition:02x}{number:032x}",
            thread_id=thread,
            user=user,
            on_busy=options["on_busy"],
            create=options["create"] and (known is None or known.is_kept),
        )
        self.commands[post.job_id] = self._command(post, options["content"])
        answer = self.model.accept(post)
        assert self._accept(post) == answer
        return post if answer == ("ACCEPTED", post.job_id) else multiple()

    def _command(self, post: Post, content: str) -> RunJob:
        command = self.server.command(post.thread_id, user=post.user, content=content)
        return command.model_copy(update={"job_id": post.job_id})

    @rule(post=posts)
    def post_again(self, post: Post) -> None:
        if self.model.jobs[post.job_id].is_kept:
            assert self.model.accept(post) == ("ACCEPTED", post.job_id)
            assert self._accept(post) == ("ACCEPTED", post.job_id)

    def _accept(self, post: Post) -> tuple[str, str]:
        created = ThreadCreated(thread_id=post.thread_id, at=AT, owner=post.user)
        call = self.server.log.accept_job(
            self.commands[post.job_id],
            on_busy=post.on_busy,
            queue_max=QUEUE_MAX,
            create=created if post.create else None,
        )
        code, accepted = self._answer(call, "ACCEPTED")
        return code, accepted.job_id if accepted else ""

    def _answer(self, call: Coroutine[Any, Any, Any], code: str) -> tuple[str, Any]:
        """The code of a call that succeeds or refuses, and its result."""
        try:
            return code, self.run(call)
        except tuple(REFUSALS) as refusal:
            return REFUSALS[type(refusal)], None

    @rule(post=posts)
    def cancel(self, post: Post) -> None:
        status = self.run(self.server.log.request_cancel(post.job_id, post.thread_id))
        assert status == self.model.cancel(post.job_id)

    @rule(thread=threads, user=users, title=st.sampled_from(["one", "two\u2028", "three", None]))
    def rename_or_delete(self, thread: str, user: str, title: str | None) -> None:
        event = (
            ThreadUpdated(thread_id=thread, at=AT, title=title)
            if title
            else ThreadDeleted(thread_id=thread, at=AT)
        )
        code, _ = self._answer(self.server.threads.change_thread(user, event), "CHANGED")
        assert code == (
            self.model.rename(thread, user, title) if title else self.model.delete(thread, user)
        )

    @rule(thread=threads, user=users, guest=guests, joins=st.booleans())
    def invite_or_part(self, thread: str, user: str, guest: str, joins: bool) -> None:
        kind, does = (
            (ParticipantJoined, self.model.invite) if joins else (ParticipantLeft, self.model.part)
        )
        event = kind(thread_id=thread, at=AT, user=guest)
        code, _ = self._answer(self.server.threads.change_thread(user, event), "CHANGED")
        assert code == does(thread, user, guest)

    @rule(thread=threads, user=guests, upto=st.integers(1, 9))
    def read(self, thread: str, user: str, upto: int) -> None:
        event = ThreadRead(thread_id=thread, at=AT, user=user, message_id="msg_1", upto=upto)
        code, _ = self._answer(self.server.threads.change_thread(user, event), "CHANGED")
        assert code == self.model.read(thread, user, upto)

    @rule(post=posts, user=users)
    def delete_message(self, post: Post, user: str) -> None:
        event = MessageDeleted(
            thread_id=post.thread_id, at=AT, message_id="msg_1", job_id=post.job_id, user=user
        )
        code, _ = self._answer(self.server.threads.change_thread(user, event), "CHANGED")
        assert code == self.model.delete_message(post.thread_id, user, post.job_id)

    @precondition(DrivenLog.has_let_go)
    @rule(thread=threads)
    def load(self, thread: str) -> None:
        """What a gateway does for a thread it does not find, with what the archive says of it."""
        known = self.model.threads.get(thread)
        if known is None:
            return
        archived = Thread(
            thread_id=thread,
            owner=known.owner,
            state="DELETED" if known.state == "DELETED" else "ACTIVE",
            status="active",
            title=known.title,
            participants=tuple(known.participants),
            reads=known.reads,
            agent=None,
            created_at=AT,
            updated_at=AT,
            position=known.archived,
            seq=known.seq,
            archived=known.archived,
            processing=known.archived,
        )
        code, _ = self._answer(self.server.threads.load(archived), "LOADED")
        if known.state == "DELETED":
            assert code == "NO_ACCESS"
        else:
            assert code == "LOADED"
            self.retention.load(thread)
