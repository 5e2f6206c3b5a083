"""The use case: a batch of log entries goes into the archive and the read model.

    entries ─▶ read_batch ─▶ a round, with what others have (``rounds``, ``archive_round``)
                  │                │
                  └─ RefusedEvent ─┘
                          │
                  halve, each alone ─▶ one entry: dead letter

When it returns, every entry is in the archive or among the dead letters, Redis knows it, and the
batch is acknowledged. All of it may be repeated, by anybody, at any time.

Failures
    One bad event        The batch is halved until the event stands alone and moves to the dead
                         letters: some twenty small transactions, and nothing on the good path. The
                         batches that were in a round with it get a transaction each, once.
    Redis lost something StaleBatch: what has survived of the batch comes again. If it was read in
                         the present life, the archive has noted a wrong one, which a persister may
                         do that was paused in the middle: all is restored once more.
    Postgres, Redis away See ``archive_round``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.persister.archive_round import ArchiveRound
from services.persister.batch import Entry, RefusedEvent, Share, read_batch
from services.persister.rounds import Rounds
from services.persister.store import StaleBatch
from shared.continuity import Continuity
from shared.dead_letters import DeadLetters
from shared.keys import PartitionKeys
from shared.observability import get_logger

log = get_logger()


class ProjectEvents:
    """Call it with a partition's entries and the life in which they were read.

    Raises LogUnavailable, StaleBatch, Draining: not all of them are acknowledged.
    """

    def __init__(
        self, archive: ArchiveRound, dead_letters: DeadLetters, continuity: Continuity
    ) -> None:
        self._archive = archive
        self._rounds = Rounds(archive)
        self._dead_letters = dead_letters
        self._continuity = continuity

    async def __call__(self, partition: int, entries: Sequence[Entry], life: str) -> None:
        await self._project(partition, entries, life, self._rounds.join)

    async def rest(self) -> None:
        """Return when who trickles should look for more."""
        await self._rounds.rest()

    async def _project(
        self,
        partition: int,
        entries: Sequence[Entry],
        life: str,
        archive: Callable[[Share], Awaitable[None]],
    ) -> None:
        try:
            await archive(Share(partition, read_batch(entries), life))
        except RefusedEvent as error:
            await self._find(partition, entries, life, error)
        except StaleBatch:
            await self._continuity.close(partition, life)
            raise

    async def _alone(self, share: Share) -> None:
        """A round of its own: nobody else should suffer from what is known to be in it."""
        [outcome] = await self._archive([share])
        if outcome is not None:
            raise outcome

    async def _find(
        self, partition: int, entries: Sequence[Entry], life: str, error: RefusedEvent
    ) -> None:
        """Narrow a refusal down to the entries it is about, and archive the others."""
        if len(entries) > 1:
            half = len(entries) // 2
            await self._project(partition, entries[:half], life, self._alone)
            await self._project(partition, entries[half:], life, self._alone)
            return
        entry_id = entries[0][0].decode()
        log.warning("poison event", partition=partition, entry=entry_id, reason=str(error))
        await self._dead_letters.move_event(PartitionKeys(partition), entry_id, str(error))
