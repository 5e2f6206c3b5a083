"""`python -m services.persister.divide`: divide an archive that was made before there were parts.

    a constraint: all jobs are born before DAYS_AHEAD from now   new events must keep to it
    checked, while everybody goes on writing                     the only long step
    the table becomes a part, and the constraint goes            a moment

To be run once, when no persister of an older version runs: they cannot write to a divided archive,
and hold up what they have read until they are gone. Persisters then make the periods.

Exit codes: 0 it is divided, 1 it is not, and is as it was before.

Failures
    Killed in between   The constraint is left behind: run it again, within DAYS_AHEAD.
    Begun twice         The second one finds the constraint, and takes the work over.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from services.persister.division import LASTING, divide, is_divided
from services.persister.periods import DAY_MS, birth
from services.persister.schema import first_line
from shared.errors import ArchiveUnavailable, HeadwaterError
from shared.observability import configure_logging
from shared.postgres import CONNECT_SECONDS_MAX, engine_url
from shared.read_model import born
from shared.settings import load_settings

DAYS_AHEAD: Final = 7  # jobs of these days stay with those from before
LOCK_SECONDS_MAX: Final = 10
CONSTRAINT: Final = "events_undated"


def divide_archive(database_url: str, now_ms: int) -> bool:
    """False if it was divided already. Raises ArchiveUnavailable."""
    until = birth(now_ms // DAY_MS * DAY_MS + DAYS_AHEAD * DAY_MS)
    connect_args = {"connect_timeout": CONNECT_SECONDS_MAX, "prepare_threshold": None}
    engine = create_engine(engine_url(database_url), connect_args=connect_args)
    try:
        with engine.connect() as connection:
            if is_divided(connection):
                return False
        try:
            _run(engine, f"ALTER TABLE events DROP CONSTRAINT IF EXISTS {CONSTRAINT}")
            check = f"CHECK ({born('stream_id')} < '{until}')"
            _run(engine, f"ALTER TABLE events ADD CONSTRAINT {CONSTRAINT} {check} NOT VALID")
            _run(engine, f"ALTER TABLE events VALIDATE CONSTRAINT {CONSTRAINT}")
            with engine.begin() as connection:
                _bound(connection)
                divide(connection, until=until)
                connection.exec_driver_sql(f"ALTER TABLE {LASTING} DROP CONSTRAINT {CONSTRAINT}")
        except DBAPIError:
            _run(engine, f"ALTER TABLE events DROP CONSTRAINT IF EXISTS {CONSTRAINT}")
            raise
    except DBAPIError as error:
        raise ArchiveUnavailable(f"the archive is not divided: {first_line(error)}") from error
    finally:
        engine.dispose()
    return True


def _run(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        _bound(connection)
        connection.exec_driver_sql(statement)


def _bound(connection: Connection) -> None:
    """Whoever waits for the lock of a table keeps everybody else waiting."""
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS_MAX}s'"))


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings, service="divide")
        divided = divide_archive(settings.required("database_url"), round(time.time() * 1000))
    except HeadwaterError as error:
        sys.stderr.write(f"divide: {error}\n")
        return 1
    sys.stdout.write("The archive is divided.\n" if divided else "It was divided already.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
