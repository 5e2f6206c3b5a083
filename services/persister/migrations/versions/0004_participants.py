"""Who takes part in a thread, and how far they have read; which question replaces which."""

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

    op.add_column("messages", sa.Column("replaces", sa.Text))
    op.add_column("messages", sa.Column("replaced_position", sa.BigInteger))


def downgrade() -> None:
    op.drop_column("messages", "replaced_position")
    op.drop_column("messages", "replaces")
    op.drop_table("participants")
