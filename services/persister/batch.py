"""A batch of log entries, made ready for Postgres. No I/O.

    entry  (b"1790000000000-0", {h p j s t d})
             │
             ├── columns   each field of all entries as one text ──▶ archive: one statement
             └── read_model  what the events say, tokens excepted ──▶ projection: one row per key

Tokens are nearly all of the log, and Python never looks into them: a column is made by joining the
fields' bytes with a byte that JSON cannot contain, and Postgres takes it apart again. An entry that
smuggles that byte in makes one column longer than the others, and the statement refuses the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from shared.codec import decode_event
from shared.errors import CodecError
from shared.projection import Projection

Entry = tuple[bytes, Mapping[bytes, bytes]]

SEPARATOR: Final = b"\x1e"  # a control character: JSON has it neither in strings nor between them
FIELDS: Final = {b"j": "stream", b"s": "seq", b"h": "thread", b"p": "position", b"t": "type"}


class RefusedEvent(Exception):
    """Among the entries is one that cannot be archived; the message tells why, not what it says."""


@dataclass(frozen=True, slots=True)
class Batch:
    ids: Sequence[bytes]  # of the log
    columns: Mapping[str, str]  # parameters of the archive's statement
    threads: Collection[str]
    read_model: Projection
    positions: Mapping[str, int]  # of each thread's last event that is not a token
    last: tuple[int, int]  # the highest log id: milliseconds, number

    @property
    def count(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What one partition has for a round: a batch, and the life of Redis in which it was read."""

    partition: int
    batch: Batch
    life: str


def read_batch(entries: Sequence[Entry]) -> Batch:
    """Entries in the order of the log. Raises RefusedEvent when one of them is no event of it."""
    try:
        columns = {name: _column(entries, field) for field, name in FIELDS.items()}
        columns["data"] = _column(entries, b"d")
        columns["recorded_ms"] = _joined([entry_id.split(b"-", 1)[0] for entry_id, _ in entries])
        read_model, positions = _read_model(entries)
    except KeyError as error:
        raise RefusedEvent(f"field {error.args[0].decode()} is missing") from None
    except CodecError as error:
        raise RefusedEvent(str(error)) from None
    except UnicodeDecodeError:
        raise RefusedEvent("not UTF-8") from None
    except ValueError:
        raise RefusedEvent("position is not a number") from None
    threads = frozenset(columns["thread"].split(SEPARATOR.decode()))
    ids = [entry_id for entry_id, _ in entries]
    return Batch(ids, columns, threads, read_model, positions, _log_id(ids[-1]))


def columns_of(batches: Sequence[Batch]) -> dict[str, str]:
    """The columns of several batches as those of one."""
    between = SEPARATOR.decode()
    return {
        name: between.join([batch.columns[name] for batch in batches])
        for name in batches[0].columns
    }


def _read_model(entries: Sequence[Entry]) -> tuple[Projection, dict[str, int]]:
    read_model, positions = Projection(), dict[str, int]()
    for _, fields in entries:
        if fields[b"t"] == b"token":
            continue
        thread_id, position = fields[b"h"].decode(), int(fields[b"p"])
        event = decode_event(fields[b"d"])
        if event.type != fields[b"t"].decode():
            raise CodecError("type: not that of the entry")
        read_model.add(thread_id, position, event)
        positions[thread_id] = max(position, positions.get(thread_id, 0))
    return read_model, positions


def _column(entries: Sequence[Entry], field: bytes) -> str:
    return _joined([fields[field] for _, fields in entries])


def _joined(values: Sequence[bytes]) -> str:
    return SEPARATOR.join(values).decode()


def _log_id(entry_id: bytes) -> tuple[int, int]:
    milliseconds, number = entry_id.split(b"-")
    return int(milliseconds), int(number)
