"""What must be true of a recorded history, whatever was done to the system: pure, no I/O.

`check` holds the records against the nine invariants (numbers 1 to 9) and against what must be so
after healing (number 0). `python -m tests.faults.oracle FILE` checks a history that was kept.

A break is told once, where it belongs. A seq that is missing or repeated, or a `done` that is not
last, is 1. An attempt that speaks after its successor is 5: nothing but a zombie does that. A job
without any `done` is 4, a viewer that was not given it 0. Events that differ between two readers
are 3, between Redis and Postgres 6; an event that somebody saw and Postgres never got is 8.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.facts import Event, Facts
from tests.faults.history import Record, load

RESIDENT_BYTES_MAX = 400 << 20  # of one service
QUIET_SECONDS_MAX = 10.0
TAIL = 3
FINAL = frozenset(("done", "failed", "cancelled"))
NEEDED = ("quiet", "job", "suffix", "redis", "archive", "owned", "rebuild", "foreign", "memory")
REFUSED_PROPERLY = 503
BEGINNINGS = frozenset(("started", "error", "done"))  # one that is beyond the limit ends at once


class Violation(NamedTuple):
    """`invariant` is the number in the design, 0 for what must be so after healing."""

    invariant: int
    subject: str
    text: str


Found = Iterator[Violation]


def check(records: Sequence[Record]) -> list[Violation]:
    """Every violation; those of invariants that the row waived are left out."""
    facts = Facts(records)
    found = [violation for one in CHECKS for violation in one(facts)]
    return [one for one in found if one.invariant not in facts.expected.waived]


def recorded(facts: Facts) -> Found:
    """0. What was not looked at must not count as found in order."""
    for kind in NEEDED:
        if not facts.of[kind]:
            yield Violation(0, "history", f"nothing was recorded of {kind}")


def contiguous(facts: Facts) -> Found:
    """1. Redis may have let go of the front of a stream."""
    for copy in facts.copies:
        seqs = [event["seq"] for event in copy.events]
        first = seqs[0] if copy.holder == "Redis" else 1
        if seqs != list(range(first, first + len(seqs))):
            yield Violation(1, copy.job_id, f"{copy.holder}: seqs are {_runs(seqs)}")
        ends = [place for place, event in enumerate(copy.events, 1) if event["type"] == "done"]
        if ends and ends != [len(copy.events)]:
            yield Violation(1, copy.job_id, f"{copy.holder}: done at {ends} of {len(seqs)}")


def adds_up(facts: Facts) -> Found:
    """2."""
    for job_id in facts.accepted:
        events = facts.events.get(job_id, [])
        if not events or (done := events[-1])["type"] != "done":
            continue
        job = facts.jobs.get(job_id, {}).get("body") or {}
        message = facts.messages.get(job_id, {})
        answers = {
            "the joined tokens": (_text(events), done["status"], len(events)),
            "GET": (job.get("content") or "", job.get("status"), job.get("last_seq")),
            "Postgres": (message.get("content"), message.get("status"), len(events)),
        }
        if done["status"] == "cancelled" and done["attempt"] == 0 and not message:
            del answers["Postgres"]  # nobody began it, so nobody has said anything
        for who, answer in answers.items():
            if answer != (done["content"], done["status"], done["seq"]):
                yield Violation(2, job_id, f"{who} and done differ: {answer[1:]}")


def suffixes(facts: Facts) -> Found:
    """3. Live connections give a part of the suffix, reads after the end all of it."""
    for one in facts.connections:
        found = _differs(one.events, facts.events[one.job_id], one.after) if one.events else None
        if found:
            yield Violation(3, one.job_id, f"{one.viewer} after {one.after}: {found}")
    for one in facts.of["suffix"]:
        whole = facts.events.get(one["job_id"], [])
        found = _differs(one["events"], whole, one["after"])
        if not found and len(one["events"]) != len(whole) - one["after"]:
            found = f"{len(one['events'])} events of {len(whole) - one['after']}"
        if found:
            yield Violation(3, one["job_id"], f"{one['via']} after {one['after']}: {found}")


def kept(facts: Facts) -> Found:
    """4. And one key makes one job."""
    for job_id in facts.accepted:
        job, events = facts.jobs.get(job_id, {}), facts.events.get(job_id, [])
        status = (job.get("body") or {}).get("status")
        if status not in FINAL or not any(event["type"] == "done" for event in events):
            yield Violation(4, job_id, f"accepted, and its status is {status}")
        elif status not in _allowed(job_id, facts):
            yield Violation(4, job_id, f"ended as {status}")
    jobs_of: dict[tuple[str, str], set[str]] = defaultdict(set)
    for job_id, request in facts.accepted.items():
        jobs_of[request["user"], request["key"]].add(job_id)
    for (_, key), jobs in jobs_of.items():
        if len(jobs) > 1:
            yield Violation(4, key, f"one key, several jobs: {sorted(jobs)}")
    yield from _uninvited(facts)


def _uninvited(facts: Facts) -> Found:
    """Jobs that nobody was told of: as many as there are keys without an answer, at most, or keys
    that were repeated after Redis had lost them."""
    asked: dict[str, set[str]] = defaultdict(set)
    answered: dict[str, set[str]] = defaultdict(set)
    for request in facts.requests:
        if request["method"] == "POST" and request.get("key"):
            asked[request["user"]].add(request["key"])
            if (request.get("answer") or {}).get("job_id"):
                answered[request["user"]].add(request["key"])
    for one in facts.of["owned"]:
        user, known = one["user"], set(one["job_ids"])
        extra = known - set(facts.accepted)
        if len(extra) > len(asked[user] - answered[user]) + facts.keys_lost(user):
            yield Violation(4, user, f"jobs that were not asked for: {sorted(extra)}")


def fenced(facts: Facts) -> Found:
    """5."""
    for copy in facts.copies:
        attempt = copy.events[0]["attempt"] if copy.events else 0
        for event in copy.events:
            if event["attempt"] < attempt:
                where = f"seq {event['seq']} is of attempt {event['attempt']}, after {attempt}"
                yield Violation(5, copy.job_id, f"{copy.holder}: {where}")
                break
            if event["attempt"] > attempt and event["type"] not in BEGINNINGS:
                begin = f"attempt {event['attempt']} begins with {event['type']}"
                yield Violation(5, copy.job_id, f"{copy.holder}: {begin}")
            attempt = event["attempt"]


def archived(facts: Facts) -> Found:
    """6. Of what Redis still holds: the end of each thread's stream."""
    for thread_id, held in facts.redis.items():
        rows = facts.archive.get(thread_id, {})
        front = min((entry["position"] for entry in held.values()), default=0)
        for place in sorted(held.keys() | rows.keys()):
            entry, row = held.get(place), rows.get(place)
            if row is None:
                yield Violation(6, thread_id, f"{place} is not in Postgres")
            elif entry is None:
                if held and row["position"] >= front:
                    yield Violation(6, thread_id, f"{place} is not in Redis")
            elif entry != row:
                yield Violation(6, thread_id, f"{place} differs in Redis and Postgres")


def rebuilt(facts: Facts) -> Found:
    """7."""
    for one in facts.of["rebuild"]:
        if one["exit_code"] != 0:
            yield Violation(7, "rebuild", f"exit code {one['exit_code']}: {one['output'][-500:]}")


def never_early(facts: Facts) -> Found:
    """8."""
    places = {place for rows in facts.archive.values() for place in rows}
    seen: dict[str, set[int]] = defaultdict(set)
    for one in facts.connections:
        seen[one.job_id].update(event["seq"] for event in one.events)
    for job_id, seqs in seen.items():
        lost = sorted(seq for seq in seqs if (job_id, seq) not in places)
        if lost:
            yield Violation(8, job_id, f"seen and never archived: {_runs(lost)}")


def private(facts: Facts) -> Found:
    """9."""
    for one in facts.of["foreign"]:
        got = one["status"], one["body"]
        alike = got == (one["missing_status"], one["missing_body"])
        if not alike or one["status"] not in (404, 503):  # 503: in doubt, after a loss
            yield Violation(9, one["path"], f"a stranger got {one['status']}: {one['body'][:200]}")


def healed(facts: Facts) -> Found:
    """0, of the log."""
    for one in facts.of["quiet"]:
        for group in one["groups"]:
            if group["pending"] or group["unread"]:
                state = f"{group['pending']} pending, unread: {group['unread']}"
                yield Violation(0, f"{group['group']} of {group['partition']}", state)
    if [one["status"] for one in facts.of["tail"]] != ["done"] * TAIL:
        yield Violation(0, "tail", f"the last requests: {facts.of['tail']}")


def sound(facts: Facts) -> Found:
    """0, of the services."""
    for one in facts.of["traceback"]:
        yield Violation(0, one["service"], one["text"][:1000])
    for one in facts.of["memory"]:
        if one["bytes"] > RESIDENT_BYTES_MAX:
            yield Violation(0, one["service"], f"holds {one['bytes'] >> 20} MiB")


def served(facts: Facts) -> Found:
    """0, of the clients."""
    for viewer, events in facts.viewed.items():
        if not events or events[-1]["type"] != "done":
            yield Violation(0, viewer, f"not told the end, after {len(events)} events")
    for one in facts.requests:
        status, code = one.get("status") or 200, one.get("code")
        proper = status == REFUSED_PROPERLY and one.get("retry_after") is not None
        if status >= 400 and not proper and code not in facts.expected.codes:
            yield Violation(0, f"{one['method']} {one['path']}", f"answered {status} {code}")


CHECKS: tuple[Callable[[Facts], Found], ...] = (
    *(contiguous, adds_up, suffixes, kept, fenced, archived, rebuilt, never_early, private),
    *(recorded, healed, sound, served),
)


def _allowed(job_id: str, facts: Facts) -> set[str]:
    cancelled = {"cancelled"} if job_id in facts.cancelled else set[str]()
    return cancelled | facts.fates.get(job_id, {"done"} | facts.expected.statuses)


def _text(events: Sequence[Event]) -> str:
    last = events[-1]["attempt"]
    tokens = [event for event in events if event["type"] == "token" and event["attempt"] == last]
    return "".join(event["content"] for event in tokens)


def _differs(events: Sequence[Event], whole: Sequence[Event], after: int) -> str | None:
    """Where `events` are not what stands behind `after`; an end that is missing is none."""
    known = {event["seq"]: event for event in whole}
    for seq, event in enumerate(events, after + 1):
        if event != known.get(seq):
            return f"another event in the place of seq {seq}: {json.dumps(event)[:200]}"
    return None


def _runs(seqs: Sequence[int]) -> str:
    """1, 2, 3, 7 as 1-3 7."""
    runs: list[list[int]] = []
    for seq in seqs:
        if runs and seq == runs[-1][1] + 1:
            runs[-1][1] = seq
        else:
            runs.append([seq, seq])
    return " ".join(f"{first}-{last}" if first != last else str(first) for first, last in runs)


def main(path: str) -> int:
    violations = check(load(Path(path)))
    for one in violations:
        sys.stdout.write(f"{one.invariant} {one.subject}: {one.text}\n")
    sys.stdout.write(f"{len(violations)} violations\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
