"""A hand-made history that is right, and one corruption of it after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.faults.history import Record

JOB, THREAD, USER = "job_05aa", "thr_aa", "user-1"


def told(seq: int, attempt: int, kind: str, **payload: Any) -> dict[str, Any]:
    return {"type": kind, "job_id": JOB, "seq": seq, "attempt": attempt, **payload}


EVENTS = [
    told(1, 1, "started"),
    told(2, 1, "token", content="no "),
    told(3, 2, "started"),
    told(4, 2, "token", content="a "),
    told(5, 2, "token", content="b"),
    told(6, 2, "done", status="done", content="a b"),
]


def good(events: Sequence[dict[str, Any]] = EVENTS) -> list[Record]:
    """One job whose second attempt ended; one viewer came back after seq 3, and a question whose
    first reply was lost. Everybody agrees on these events."""
    end = events[-1]
    stored = [
        {"position": position, "stream": JOB, "seq": event["seq"], "data": json.dumps(event)}
        for position, event in enumerate(events, 3)
    ]
    posted = {"position": 2, "stream": THREAD, "seq": 2, "data": "{}"}
    asked = {"user": USER, "method": "POST", "path": "/v1/jobs", "key": "key-1"}
    body = {"status": end["status"], "content": end["content"], "last_seq": end["seq"]}
    groups = [
        {"group": group, "partition": 0, "pending": 0, "unread": False}
        for group in ("orchestrators", "persisters")
    ]
    missing = {"missing_status": 404, "missing_body": "{}"}
    records = [
        record("request", **asked, error="the reply was lost"),
        record("request", **asked, status=503, code="log_unavailable", retry_after=1.0),
        record("request", **asked, status=202, answer={"job_id": JOB, "thread_id": THREAD}),
        record("fault", name="kill api-1", phase="begin"),
        *connection(1, 0, events[:3]),
        *connection(2, 3, events[3:]),
        record("quiet", groups=groups, seconds=0.1),
        *(record("tail", status="done") for _ in range(3)),
        record("job", job_id=JOB, status=200, body=body),
        record("suffix", job_id=JOB, via="json", after=2, events=events[2:]),
        record("suffix", job_id=JOB, via="sse", after=0, events=events),
        record("redis", thread_id=THREAD, entries=[posted, *stored]),
        record("archive", thread_id=THREAD, entries=[posted, *stored]),
        record("message", job_id=JOB, content=end["content"], status=end["status"]),
        record("owned", user=USER, job_ids=[JOB]),
        record("rebuild", exit_code=0, output="Same rows."),
        record("foreign", path=f"/v1/jobs/{JOB}", status=404, body="{}", **missing),
        record("memory", service="api-1", bytes=100 << 20),
    ]
    apart = json.loads(json.dumps(records))  # nothing is shared: one may change alone
    return [{**one, "t": place / 10} for place, one in enumerate(apart)]


def record(kind: str, **facts: Any) -> Record:
    return {"kind": kind, **facts}


def connection(number: int, after: int, events: Sequence[dict[str, Any]]) -> list[Record]:
    place = {"viewer": "viewer-1", "connection": number}
    begin = record("connect", job_id=JOB, after=after, **place)
    return [begin, *(record("event", event=event, **place) for event in events)]


def of(records: list[Record], kind: str) -> list[Record]:
    return [one for one in records if one["kind"] == kind]


def seen(records: list[Record], seq: int) -> Record:
    return next(one for one in of(records, "event") if one["event"]["seq"] == seq)


def drop(records: list[Record], kind: str) -> None:
    records[:] = [one for one in records if one["kind"] != kind]


def cut_out(records: list[Record], kind: str, seq: int) -> None:
    """Remove one event of the job from a store."""
    (one,) = of(records, kind)
    one["entries"] = [e for e in one["entries"] if (e["stream"], e["seq"]) != (JOB, seq)]


# Each takes good records and breaks one thing.


def viewer_misses_an_event(records: list[Record]) -> None:
    records.remove(seen(records, 5))
    seen(records, 6)["connection"] = 3
    records.append(connection(3, 5, [])[0])


def viewer_gets_an_event_twice(records: list[Record]) -> None:
    records.insert(records.index(seen(records, 4)), connection(3, 3, [])[0])
    records.insert(records.index(seen(records, 4)), {**seen(records, 4), "connection": 3})


def another_done_follows(records: list[Record]) -> None:
    """For everybody, so nobody differs."""
    records[:] = good([*EVENTS, EVENTS[5] | {"seq": 7}])


def message_has_another_text(records: list[Record]) -> None:
    of(records, "message")[0]["content"] = "no a b"


def get_has_another_text(records: list[Record]) -> None:
    of(records, "job")[0]["body"]["content"] = "a "


def message_is_missing(records: list[Record]) -> None:
    drop(records, "message")


def page_begins_too_late(records: list[Record]) -> None:
    of(records, "suffix")[0]["events"].pop(0)


def page_ends_too_early(records: list[Record]) -> None:
    of(records, "suffix")[0]["events"].pop()


def viewer_reads_another_text(records: list[Record]) -> None:
    seen(records, 5)["event"]["content"] = "c"


def job_never_ends(records: list[Record]) -> None:
    """One that nobody watches, beside the good one."""
    answer = {"job_id": "job_05bb", "thread_id": "thr_bb"}
    asked = {"user": USER, "method": "POST", "path": "/v1/jobs", "key": "key-2"}
    records.append(record("request", **asked, status=202, answer=answer))
    records.append(record("job", job_id="job_05bb", status=200, body={"status": "running"}))


def job_fails(records: list[Record]) -> None:
    """For everybody alike."""
    records[:] = good([*EVENTS[:5], EVENTS[5] | {"status": "failed"}])


def key_makes_two_jobs(records: list[Record]) -> None:
    of(records, "owned")[0]["job_ids"].append("job_05bb")


def zombie_speaks(records: list[Record]) -> None:
    """For everybody: the token at seq 5 is of the first attempt, and no part of the answer."""
    records[:] = good([*EVENTS[:4], EVENTS[4] | {"attempt": 1}, EVENTS[5] | {"content": "a "}])


def redis_differs(records: list[Record]) -> None:
    of(records, "redis")[0]["entries"][2]["data"] += " "


def thread_event_is_not_archived(records: list[Record]) -> None:
    of(records, "archive")[0]["entries"].pop(0)


def redis_has_a_hole_between_threads_events(records: list[Record]) -> None:
    entry = {"position": 9, "stream": THREAD, "seq": 3, "data": "{}"}
    of(records, "archive")[0]["entries"].append(entry)


def rebuild_differs(records: list[Record]) -> None:
    of(records, "rebuild")[0]["exit_code"] = 1


def end_expired_before_it_was_archived(records: list[Record]) -> None:
    cut_out(records, "archive", 6)
    of(records, "redis")[0]["entries"].clear()


def stranger_reads(records: list[Record]) -> None:
    of(records, "foreign")[0]["status"] = 200


def stranger_can_tell_it_is_there(records: list[Record]) -> None:
    of(records, "foreign")[0]["body"] = '{"detail": "not yours"}'


def something_is_pending(records: list[Record]) -> None:
    of(records, "quiet")[0]["groups"][0]["pending"] = 1


def group_is_gone(records: list[Record]) -> None:
    of(records, "quiet")[0]["groups"][1] |= {"pending": None, "unread": "NOGROUP"}


def last_request_fails(records: list[Record]) -> None:
    of(records, "tail")[2]["status"] = "NotAccepted()"


def service_logs_a_traceback(records: list[Record]) -> None:
    records.append(record("traceback", service="api-1", text="Traceback …"))


def service_grows(records: list[Record]) -> None:
    of(records, "memory")[0]["bytes"] = 1 << 30


def viewer_is_left_alone(records: list[Record]) -> None:
    records.remove(seen(records, 6))


def gateway_answers_500(records: list[Record]) -> None:
    of(records, "request")[0] |= {"status": 500, "code": "internal_error"}


def gateway_does_not_say_when_to_come_back(records: list[Record]) -> None:
    del of(records, "request")[1]["retry_after"]


def rebuild_was_not_tried(records: list[Record]) -> None:
    drop(records, "rebuild")
