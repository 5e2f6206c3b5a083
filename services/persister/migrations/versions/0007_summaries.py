"""What stands for the beginning of long threads, and when messages of it were deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "summaries",
        sa.Column("thread_id", sa.Text, primary_key=True),
        sa.Column("summary", JSONB),
        sa.Column("summary_position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    # Empty where a message was deleted before: no summary is as old as that.
    op.add_column("messages", sa.Column("deleted_position", sa.BigInteger))
    op.create_index(
        "messages_deleted",
        "messages",
        ["thread_id", "deleted_position"],
        postgresql_where=sa.text("deleted_position IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("messages_deleted", "messages")
    op.drop_column("messages", "deleted_position")
    op.drop_table("summaries")
