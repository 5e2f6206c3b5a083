"""Who takes part in a thread, and how far they have read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "participants",
        sa.Column("participant_id", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("present", sa.Boolean),
        sa.Column("present_position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("read_position", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("participants_by_thread", "participants", ["thread_id"])
    op.create_index(
        "participants_by_user", "participants", ["user_id"], postgresql_where=sa.text("present")
    )


def downgrade() -> None:
    op.drop_table("participants")
