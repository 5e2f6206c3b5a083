"""A batch of log entries, made ready for Postgres. No I/O.

    entry  (b"1790000000000-0", h … p … j … s … t … d …)
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

Fields = Sequence[bytes] | Mapping[bytes, bytes]  # names and values in turn, or as pairs
Entry = tuple[bytes, Fields]

SEPARATOR: Final = b"\x1e"  # a control character: JSON has it neither in strings nor between them
NAMES: Final = (b"h", b"p", b"j", b"s", b"t", b"d")  # in the order in which the scripts write them
COLUMNS: Final = {
    b"j": "stream", b"s": "seq", b"h": "thread", b"p": "position", b"t": "type", b"d": "data",
}  # fmt: skip


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
    ids = [entry_id for entry_id, _ in entries]
    try:
        values = _by_name([fields for _, fields in entries])
        columns = {column: _joined(values[name]) for name, column in COLUMNS.items()}
        columns["recorded_ms"] = _joined([entry_id.split(b"-", 1)[0] for entry_id in ids])
        threads = {name.decode() for name in {*values[b"h"]}}
        read_model, positions = _read_model(values)
    except KeyError as error:
        raise RefusedEvent(f"field {error.args[0].decode()} is missing") from None
    except CodecError as error:
        raise RefusedEvent(str(error)) from None
    except UnicodeDecodeError:
        raise RefusedEvent("not UTF-8") from None
    except ValueError:
        raise RefusedEvent("position is not a number") from None
    return Batch(ids, columns, threads, read_model, positions, _log_id(ids[-1]))


def columns_of(batches: Sequence[Batch]) -> dict[str, str]:
    """The columns of several batches as those of one."""
    between = SEPARATOR.decode()
    return {
        name: between.join([batch.columns[name] for batch in batches])
        for name in batches[0].columns
    }


def _by_name(entries: Sequence[Fields]) -> Mapping[bytes, Sequence[bytes]]:
    """The values of each field, of all entries. Raises KeyError when an entry lacks one."""
    try:
        turned = list(zip(*entries, strict=True))
    except ValueError:
        turned = []
    names, values = turned[::2], turned[1::2]
    if tuple(name[0] for name in names) == NAMES and all(
        name.count(name[0]) == len(name) for name in names
    ):
        return dict(zip(NAMES, values, strict=True))
    parsed = [_parsed(fields) for fields in entries]
    return {name: [fields[name] for fields in parsed] for name in COLUMNS}


def _parsed(fields: Fields) -> Mapping[bytes, bytes]:
    if isinstance(fields, Mapping):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _read_model(
    values: Mapping[bytes, Sequence[bytes]],
) -> tuple[Projection, dict[str, int]]:
    read_model, positions = Projection(), dict[str, int]()
    for number, kind in enumerate(values[b"t"]):
        if kind == b"token":
            continue
        thread_id, position = values[b"h"][number].decode(), int(values[b"p"][number])
        event = decode_event(values[b"d"][number])
        if event.type != kind.decode():
            raise CodecError("type: not that of the entry")
        read_model.add(thread_id, position, event)
        positions[thread_id] = max(position, positions.get(thread_id, 0))
    return read_model, positions


def _joined(values: Sequence[bytes]) -> str:
    return SEPARATOR.join(values).decode()


def _log_id(entry_id: bytes) -> tuple[int, int]:
    milliseconds, number = entry_id.split(b"-")
    return int(milliseconds), int(number)
