"""`python -m services.persister.keep`: keep the archive in shape, once (see ``keep_archive``).

For deployments whose persisters may not change tables: run it daily, as the role that migrates, and
with the persisters' settings.

Exit codes: 0 what was due is done, or somebody else is at it; 1 it could not be done.
"""

from __future__ import annotations

import asyncio
import sys
import time

from services.persister.keep_archive import KeepArchive, Keeping
from services.persister.schema import require_schema
from shared.errors import HeadwaterError
from shared.observability import configure_logging
from shared.postgres import Database, create_engine
from shared.settings import Settings, load_settings


async def run(settings: Settings) -> None:
    database = Database.at(settings.required("database_url"), settings)
    engine = create_engine(database, application="keep")
    keeping = Keeping(settings.archive_period_days, settings.archive_days)
    try:
        await require_schema(engine)
        keeper = KeepArchive(engine, settings.partitions, keeping)
        await keeper.look(round(time.time() * 1000), asyncio.Event())
    finally:
        await engine.dispose()


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings, service="keep")
        asyncio.run(run(settings))
    except HeadwaterError as error:
        sys.stderr.write(f"keep: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
