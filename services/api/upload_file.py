"""Adds a file to a thread and, if one was sent along, posts a message with it."""

from __future__ import annotations

from services.api.authentication import Caller
from services.api.files import File, Files
from services.api.post_message import Asking, Question
from services.api.schemas import AcceptedView
from services.api.threads import Threads
from services.api.upload_schemas import UploadForm
from services.api.uploads import Spool
from shared.hot_state import HotState
from shared.idempotency import Claims, Idempotency, Plan


class Uploading:
    def __init__(
        self, files: Files, threads: Threads, asking: Asking, claims: Claims, hot: HotState
    ) -> None:
        self.files, self._threads, self._asking = files, threads, asking
        self._claims, self._hot = claims, hot

    async def check(self, user: str, thread_id: str) -> None:
        """Raises NotFound: there is no such thread to add a file to."""
        await self._threads.get(user, thread_id)

    async def upload(
        self,
        caller: Caller,
        thread_id: str,
        form: UploadForm,
        spool: Spool,
        idempotency: Idempotency | None,
    ) -> tuple[File, AcceptedView | None]:
        """The file is there, also when its message is then refused.

        Raises as ``Files.add`` and ``Asking.ask``, and IdempotencyMismatch.
        """
        mine = Plan.new(thread_id, self._hot.partitions)
        plan = await self._claims.claim(caller.user, idempotency, mine)
        file = await self.files.add(caller.user, form.name, spool, plan)
        if form.message is None:
            return file, None
        question = Question(
            form.message, thread_id, None, {}, "enqueue", attachments=[file.file_id]
        )
        accepted = await self._asking.ask(caller, question, idempotency)
        view = AcceptedView(
            message_id=accepted.message_id,
            job_id=accepted.job_id,
            thread_id=accepted.thread_id,
            trace_id=accepted.trace_id,
        )
        return file, view
