"""Which life of Redis a partition's events come from: batches of an earlier one are refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("life", sa.Text))


def downgrade() -> None:
    op.drop_column("checkpoints", "life")
