"""A history's records in order, for the oracle: who saw which events, what the stores hold."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.faults.history import Record

Event = dict[str, Any]
Place = tuple[str, int]  # the stream's id and the seq in it


@dataclass
class Connection:
    """One connection of a viewer: it asked for the events behind `after`."""

    viewer: str
    job_id: str
    after: int
    events: list[Event] = field(default_factory=list[Event])


@dataclass(frozen=True)
class Copy:
    """One copy of a job's events, with a name that tells whose it is."""

    holder: str
    job_id: str
    events: Sequence[Event]


@dataclass(frozen=True)
class Expected:
    """What the rows of a history declared beforehand."""

    statuses: frozenset[str]
    codes: frozenset[str]
    waived: frozenset[int]


class Facts:
    """The records by kind, and by what they are about."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.of: dict[str, list[Record]] = defaultdict(list)
        for record in held_good(records):
            self.of[record["kind"]].append(record)
        self.requests = self.of["request"]
        self.jobs = {one["job_id"]: one for one in self.of["job"]}
        self.messages = {one["job_id"]: one for one in self.of["message"]}
        self.archive = _entries(self.of["archive"])
        self.redis = _entries(self.of["redis"])
        self.accepted: dict[str, Record] = {}
        for request in self.requests:
            job_id = (request.get("answer") or {}).get("job_id")
            if job_id and request["method"] == "POST" and request.get("key"):
                self.accepted.setdefault(job_id, request)
        self.connections = self._connections()
        self.copies = list(self._copies())
        self.events = self._union()

    @property
    def expected(self) -> Expected:
        said = self.of["expect"]
        return Expected(
            frozenset(status for one in said for status in one.get("status", ())),
            frozenset(code for one in said for code in one.get("codes", ())),
            frozenset(number for one in said for number in one.get("waived", ())),
        )

    @property
    def fates(self) -> dict[str, set[str]]:
        """The jobs that were declared to end in a way of their own."""
        return {one["job_id"]: set(one["status"]) for one in self.of["fate"]}

    @property
    def cancelled(self) -> set[str]:
        """The jobs that somebody asked to cancel."""
        paths = [one["path"].split("/") for one in self.requests if one["method"] == "POST"]
        return {path[3] for path in paths if path[2] == "jobs" and path[-1] == "cancel"}

    def keys_lost(self, user: str) -> int:
        """How often a loss came between a question without an answer and its repetition: keys are
        not archived, so both may have become jobs."""
        asked: dict[str, list[Record]] = defaultdict(list)
        for one in self.requests:
            if one.get("key") and one["user"] == user:
                asked[one["key"]].append(one)
        losses = [one["t"] for one in self.of["loss"]]
        return sum(
            min(map(_began, requests)) <= loss < requests[-1]["t"]
            for requests in asked.values()
            for loss in losses
            if len(requests) > 1
        )

    @property
    def viewed(self) -> dict[str, list[Event]]:
        """What each viewer saw, over all its connections."""
        seen: dict[str, list[Event]] = {one["viewer"]: [] for one in self.of["connect"]}
        for one in self.of["event"]:
            seen[one["viewer"]].append(one["event"])
        return seen

    def _connections(self) -> list[Connection]:
        found: dict[tuple[str, int], Connection] = {}
        for one in self.of["connect"]:
            place = one["viewer"], one["connection"]
            found[place] = Connection(one["viewer"], one["job_id"], one["after"])
        for one in self.of["event"]:
            found[one["viewer"], one["connection"]].events.append(one["event"])
        return list(found.values())

    def _copies(self) -> Iterator[Copy]:
        job_of = {connection.viewer: connection.job_id for connection in self.connections}
        for viewer, events in self.viewed.items():
            yield Copy(viewer, job_of[viewer], events)
        for holder, kind in (("Redis", "redis"), ("Postgres", "archive")):
            of_job: dict[str, list[Event]] = defaultdict(list)
            for one in self.of[kind]:
                for entry in one["entries"]:
                    if entry["stream"].startswith("job_"):
                        of_job[entry["stream"]].append(json.loads(entry["data"]))
            for job_id, events in of_job.items():
                yield Copy(holder, job_id, events)

    def _union(self) -> dict[str, list[Event]]:
        """Each job's events in order of seq: the archive's, and where it lacks one, another's."""
        known: dict[str, dict[int, Event]] = defaultdict(dict)
        for copy in sorted(self.copies, key=lambda copy: copy.holder != "Postgres"):
            for event in copy.events:
                known[copy.job_id].setdefault(event["seq"], event)
        return {job: [by_seq[seq] for seq in sorted(by_seq)] for job, by_seq in known.items()}


def held_good(records: Sequence[Record]) -> Iterator[Record]:
    """The records without what a loss has made void: what viewers saw before they had to begin
    again, and the jobs that nobody knew after it (`loss`) and nobody knows now (404)."""
    restarts = {one["viewer"]: one["connection"] for one in records if one["kind"] == "restart"}
    unknown = {one["job_id"] for one in records if one["kind"] == "job" and one["status"] == 404}
    gone = _lost(records) & unknown
    deserted = _deserted(records, gone)
    void = {one["viewer"] for one in records if one["kind"] == "connect" and one["job_id"] in gone}
    for one in records:
        seen_before = one.get("connection", 0) <= restarts.get(one.get("viewer", ""), -1)
        named = {one.get("job_id"), (one.get("answer") or {}).get("job_id")}
        named.update(one.get("path", "").split("/"))
        refused = one.get("status") == 404 and one.get("thread_id") in deserted
        if not (seen_before or refused or one.get("viewer") in void or named & gone):
            yield one


def _lost(records: Sequence[Record]) -> set[str]:
    """The jobs that a loss may have cost. The answer to a question of before may come after it."""
    lost: set[str] = set()
    for loss in (one for one in records if one["kind"] == "loss"):
        lost.update(loss["forgotten"])
        under_way = {
            (one.get("answer") or {}).get("job_id", "")
            for one in records
            if one["kind"] == "request" and one.get("key") and _began(one) <= loss["t"] < one["t"]
        }
        lost |= under_way - set(loss["known"])
    return lost


def _deserted(records: Sequence[Record], gone: set[str]) -> set[str]:
    """The threads that went with all their jobs."""
    jobs_of: dict[str, set[str]] = defaultdict(set)
    for one in records:
        if one["kind"] == "request" and one.get("key") and (one.get("answer") or {}).get("job_id"):
            jobs_of[one["answer"]["thread_id"]].add(one["answer"]["job_id"])
    return {thread for thread, jobs in jobs_of.items() if jobs <= gone}


def _began(request: Record) -> float:
    return request["t"] - request.get("ms", 0.0) / 1000


def _entries(records: Iterable[Record]) -> dict[str, dict[Place, Record]]:
    """By thread, what stands in each place."""
    return {
        one["thread_id"]: {(entry["stream"], entry["seq"]): entry for entry in one["entries"]}
        for one in records
    }
