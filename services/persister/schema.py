"""Which revision of the schema this code needs, and which one a database has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.errors import ArchiveUnavailable, DeploymentError
from shared.read_model import SCHEMA_REVISION

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrations_config() -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def newest_revision() -> str:
    """The revision the newest migration makes."""
    return ScriptDirectory.from_config(migrations_config()).get_current_head() or ""


def first_line(error: DBAPIError) -> str:
    """What the driver says, without its advice."""
    return str(error.orig).partition("\n")[0]


async def require_schema(engine: AsyncEngine) -> None:
    """Raises DeploymentError for a database of an older revision than this code needs,
    ArchiveUnavailable.

    A newer one will do: migrations take nothing away that the version before uses.
    """
    try:
        async with engine.connect() as connection:
            found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except ProgrammingError:
        found = None  # nobody has migrated it yet
    except DBAPIError as error:
        raise ArchiveUnavailable(f"Postgres is unavailable: {first_line(error)}") from error
    if (found or "") < SCHEMA_REVISION:
        raise DeploymentError(
            f"the database has schema revision {found or 'none'}, this version needs"
            f" {SCHEMA_REVISION}: run python -m services.persister.migrate"
        )
