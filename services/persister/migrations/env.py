"""Run by Alembic, on the connection that `services.persister.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from shared.read_model import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
