"""The archive in parts, by when jobs were born; and what is left of jobs that are kept no longer.

An archive that has events already is left as it is: persisters of the version before cannot write
to a divided one. `python -m services.persister.divide` divides it once there are none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.persister.division import divide, is_divided, undivide

revision = "0008"
down_revision = "0007"

NO_JOBS = "0"  # before any that was ever born


def upgrade() -> None:
    op.create_table(
        "settled",
        sa.Column("thread_id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("event_count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("thread_id", "job_id"),
    )
    connection = op.get_bind()
    connection.execute(sa.text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
    if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM events)")):
        divide(connection, until=NO_JOBS)


def downgrade() -> None:
    if is_divided(op.get_bind()):
        undivide(op.get_bind())
    op.drop_table("settled")
