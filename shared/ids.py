"""Ids: opaque to clients, ordered by time, and naming the partition that holds their keys.

A thread's partition is the CRC-32 of its id. Everything that lives in a thread carries the
partition in its own id, so that a job id alone finds its keys without a look-up:

    thr_0192f3c1a2b4c9…            partition = crc32(id) mod partitions
    job_05 0192f3c1a2b4c9…         partition 5, written as two hexadecimal digits
    msg_05 0192f3c1a2b4c9…

A file's id carries its thread's, so that a file id alone finds whose it is:

    file_0192f3c1a2b4c9… 0192f3c1b7d0e2…
"""

from __future__ import annotations

import re
import secrets
import time
import zlib

THREAD, JOB, MESSAGE, FILE = "thr_", "job_", "msg_", "file_"
CLOCKS_APART_MS_MAX = 30 * 86_400_000  # of gateways, of which one makes a thread, another its jobs
_UNIQUE_HEX = 32  # 48 bits of milliseconds, then 80 random bits
_THREAD_ID = re.compile(rf"{THREAD}[0-9a-f]{{{_UNIQUE_HEX}}}")
_FILE_ID = re.compile(rf"{FILE}[0-9a-f]{{{2 * _UNIQUE_HEX}}}")
_PLACED_ID = re.compile(rf"(?:{JOB}|{MESSAGE})[0-9a-f]{{{_UNIQUE_HEX + 2}}}")


def _unique() -> str:
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def new_thread_id() -> str:
    return THREAD + _unique()


def new_job_id(partition: int) -> str:
    return f"{JOB}{partition:02x}{_unique()}"


def new_message_id(partition: int) -> str:
    return f"{MESSAGE}{partition:02x}{_unique()}"


def new_file_id(thread_id: str) -> str:
    return FILE + thread_id.removeprefix(THREAD) + _unique()


def new_trace_id() -> str:
    """16 random bytes in hexadecimal: the trace-id of W3C Trace Context."""
    return secrets.token_hex(16)


def is_thread_id(value: str) -> bool:
    return _THREAD_ID.fullmatch(value) is not None


def is_job_id(value: str) -> bool:
    return value.startswith(JOB) and _PLACED_ID.fullmatch(value) is not None


def is_message_id(value: str) -> bool:
    return value.startswith(MESSAGE) and _PLACED_ID.fullmatch(value) is not None


def is_file_id(value: str) -> bool:
    return _FILE_ID.fullmatch(value) is not None


def thread_of_file(file_id: str) -> str:
    """The thread written in a file id, which must be well formed."""
    return THREAD + file_id.removeprefix(FILE)[:_UNIQUE_HEX]


def born(stream_id: str) -> str:
    """When a job was made, in milliseconds, as its id has them (12 hexadecimal digits); '' for what
    is no job, such as a thread. The archive is divided by it (``shared.read_model``)."""
    return stream_id[6:18] if stream_id.startswith(JOB) else ""


def jobs_born_since(thread_id: str) -> str:
    """From when on the thread's jobs were born, if clocks are CLOCKS_APART_MS_MAX apart at most."""
    if not is_thread_id(thread_id):
        return ""
    return f"{max(0, int(thread_id[4:16], 16) - CLOCKS_APART_MS_MAX):012x}"


def partition_of_thread(thread_id: str, partitions: int) -> int:
    return zlib.crc32(thread_id.encode()) % partitions


def partition_of(placed_id: str) -> int:
    """The partition written in a job or message id, which must be well formed."""
    return int(placed_id[4:6], 16)
