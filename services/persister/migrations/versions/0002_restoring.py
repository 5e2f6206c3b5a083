"""Find what a Redis that lost its end has lost: the newest events, and the jobs without an end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Events come in the order of time, so a few bytes per megabyte of them are index enough.
    op.create_index("events_by_time", "events", ["recorded_at"], postgresql_using="brin")
    op.create_index(
        "jobs_unfinished",
        "jobs",
        ["job_id"],
        postgresql_where=sa.text("status = ANY (ARRAY['queued', 'running'])"),
    )


def downgrade() -> None:
    op.drop_index("jobs_unfinished", "jobs")
    op.drop_index("events_by_time", "events")
