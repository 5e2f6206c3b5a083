"""What messages are found by. Those that are there get theirs when the read model is made again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("messages", sa.Column("asker", sa.Text))
    op.add_column("messages", sa.Column("terms", TSVECTOR))
    op.create_index(
        "messages_by_term",
        "messages",
        [sa.text("(ARRAY[asker])"), "terms"],
        postgresql_using="gin",
        postgresql_where=sa.text("role IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("messages_by_term", "messages")
    op.drop_column("messages", "terms")
    op.drop_column("messages", "asker")
