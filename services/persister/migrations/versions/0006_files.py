"""Files of threads, the passages of their text, and which message has which attached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("file_id", sa.Text, primary_key=True),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("media_type", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("has_thumbnail", sa.Boolean),
        sa.Column("position", sa.BigInteger),
        sa.Column("created_at", sa.DateTime(timezone=True)),
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
    )
    op.create_index("files_by_thread", "files", ["thread_id"])
    op.create_table(
        "file_passages",
        sa.Column("passage_id", sa.Text, primary_key=True),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer),
        sa.Column("text", sa.Text),
        sa.Column("terms", TSVECTOR),
    )
    op.create_index("file_passages_by_file", "file_passages", ["file_id", "number"])
    op.create_index(
        "file_passages_by_term",
        "file_passages",
        [sa.text("(ARRAY[thread_id])"), "terms"],
        postgresql_using="gin",
    )
    op.add_column("messages", sa.Column("attachments", JSONB))


def downgrade() -> None:
    op.drop_column("messages", "attachments")
    op.drop_table("file_passages")
    op.drop_table("files")
