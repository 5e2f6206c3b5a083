"""`python -m services.persister.migrate`: bring the database to the schema this code needs.

Safe beside itself: an advisory lock lets one migrate at a time, and the next finds nothing to do.
All of it is one transaction: a migration that fails leaves the database as it was.

Failures: Postgres away, or a migration that fails: a line on standard error, exit code 1.
"""

from __future__ import annotations

import sys
from typing import Final

from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from services.persister.schema import first_line, migrations_config, newest_revision
from shared.errors import ArchiveUnavailable, HeadwaterError
from shared.observability import configure_logging, get_logger
from shared.postgres import CONNECT_SECONDS_MAX, engine_url
from shared.settings import load_settings

LOCK_KEY: Final = 0x4865616477617465  # "Headwate"
LOCK_WAIT_SECONDS_MAX: Final = 120


def migrate(database_url: str) -> None:
    """Upgrade to the newest revision. Raises ArchiveUnavailable."""
    engine = create_engine(
        engine_url(database_url),
        connect_args={"connect_timeout": CONNECT_SECONDS_MAX, "prepare_threshold": None},
    )
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS_MAX}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            config = migrations_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise ArchiveUnavailable(
            f"the database could not be migrated: {first_line(error)}"
        ) from error
    finally:
        engine.dispose()


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings, service="migrate")
        migrate(settings.required("database_url"))
    except HeadwaterError as error:
        sys.stderr.write(f"migrate: {error}\n")
        return 1
    get_logger().info("migrated", revision=newest_revision())
    return 0


if __name__ == "__main__":
    sys.exit(main())
