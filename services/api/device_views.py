"""What clients receive of devices: who is where, and what they have asked."""

from __future__ import annotations

from services.api.schemas import JobStatusView, View


class CancelledView(View):
    """The jobs that were asked to stop, with their statuses now."""

    items: list[JobStatusView]


class PresentView(View):
    """A user who has a socket open in a thread, and from which devices."""

    user: str
    session_ids: list[str]


class PresencePage(View):
    items: list[PresentView]


class SessionView(View):
    session_id: str
    used_at: str


class SessionPage(View):
    items: list[SessionView]
