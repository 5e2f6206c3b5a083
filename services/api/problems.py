"""Errors as RFC 9457 problem details, each with a stable `code`.

`code` is for programs, `detail` for people. Another's thing and a missing thing are the same 404.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from shared.errors import (
    ArchiveTooSlow,
    ArchiveUnavailable,
    EventsGone,
    FilesUnavailable,
    FileTooLarge,
    FileTypeRefused,
    HeadwaterError,
    IdempotencyMismatch,
    ImageTooLarge,
    KeysUnavailable,
    LogUnavailable,
    NotFound,
    NotTheOwner,
    OwnerStays,
    QueueFull,
    ThreadBusy,
    ThreadCrowded,
    TooManyJobs,
    TooManySockets,
    TooManyStreams,
    TooManyUploads,
)
from shared.observability import get_logger

RETRY_AFTER_SECONDS: Final = 1
FIELDS_MAX: Final = 20  # named in one answer
PROBLEM_JSON: Final = "application/problem+json"
PROBLEM_CODE: Final = "problem_code"  # in the state of a request's scope
CLIENT_LEFT: Final = "client disconnected prematurely"  # the framework's words, with a status 500

log = get_logger()

CODES: Final = {
    "invalid_request": 400,
    "malformed_request": 400,
    "bad_cursor": 400,
    "cursor_ahead": 400,
    "bad_idempotency_key": 400,
    "nothing_to_change": 400,
    "unknown_agent": 400,
    "token_in_url": 400,
    "unauthorized": 401,
    "foreign_origin": 403,
    "not_the_owner": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "thread_busy": 409,
    "owner_stays": 409,
    "thread_crowded": 409,
    "events_gone": 410,
    "body_too_large": 413,
    "file_too_large": 413,
    "image_too_large": 413,
    "unsupported_media_type": 415,
    "file_type_refused": 415,
    "range_not_satisfiable": 416,
    "idempotency_mismatch": 422,
    "queue_full": 429,
    "rate_limited": 429,
    "too_many_jobs": 429,
    "too_many_sockets": 429,
    "too_many_streams": 429,
    "too_many_uploads": 429,
    "head_too_large": 431,
    "internal_error": 500,
    "log_unavailable": 503,
    "archive_unavailable": 503,
    "keys_unavailable": 503,
    "search_too_slow": 503,
    "files_unavailable": 503,
}
_OF_ERRORS: Final[dict[type[HeadwaterError], str]] = {
    NotFound: "not_found",
    NotTheOwner: "not_the_owner",
    EventsGone: "events_gone",
    ThreadBusy: "thread_busy",
    OwnerStays: "owner_stays",
    ThreadCrowded: "thread_crowded",
    QueueFull: "queue_full",
    TooManyJobs: "too_many_jobs",
    TooManySockets: "too_many_sockets",
    TooManyStreams: "too_many_streams",
    TooManyUploads: "too_many_uploads",
    FileTooLarge: "file_too_large",
    ImageTooLarge: "image_too_large",
    FileTypeRefused: "file_type_refused",
    IdempotencyMismatch: "idempotency_mismatch",
    LogUnavailable: "log_unavailable",
    ArchiveUnavailable: "archive_unavailable",
    KeysUnavailable: "keys_unavailable",
    ArchiveTooSlow: "search_too_slow",
    FilesUnavailable: "files_unavailable",
}
_OF_STATUSES: Final = {  # of refusals that the framework decides on
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class BadRequest(HTTPException):
    """400 with a code of its own."""

    status_code = 400

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail=detail)
        self.code = code


class TooManyRequests(HTTPException):
    """429, and when to come again."""

    status_code = 429
    code = "rate_limited"

    def __init__(self, retry_seconds: int, fields: Mapping[str, str]) -> None:
        headers = {"Retry-After": str(retry_seconds), **fields}
        super().__init__(detail="Too many requests in this minute.", headers=headers)


class ForeignOrigin(HTTPException):
    """403 for a page that is not on the list."""

    status_code = 403
    code = "foreign_origin"


class Problem(Response[bytes]):
    """An answer that is a problem, and which one."""

    def __init__(self, code: str, content: bytes, headers: dict[str, str]) -> None:
        super().__init__(content, status_code=CODES[code], media_type=PROBLEM_JSON, headers=headers)
        self.code = code


def problem(
    code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Problem:
    status = CODES[code]
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return Problem(code, json.dumps(body).encode(), headers or {})


@dataclass(frozen=True, slots=True)
class Told:
    """What a client is told of an error."""

    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    more: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def status(self) -> int:
        return CODES[self.code]

    @property
    def retry_seconds(self) -> int | None:
        """When to try the same again, where that may help."""
        after = self.headers.get("Retry-After")
        return None if after is None else int(after)


def told_of(error: Exception) -> Told | None:
    """None for a defect."""
    if isinstance(error, HeadwaterError):
        code = _OF_ERRORS.get(type(error))
        passing = code is not None and CODES[code] in (429, 503)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if passing else {}
        return Told(code, str(error), headers) if code else None
    return _told_of_http(error) if isinstance(error, HTTPException) else None


def _told_of_http(error: HTTPException) -> Told | None:
    has_code = isinstance(error, BadRequest | ForeignOrigin | TooManyRequests)
    code = error.code if has_code else _OF_STATUSES.get(error.status_code)
    if error.detail == CLIENT_LEFT:  # in the middle of its request: nobody hears the answer
        return Told("invalid_request", "The request is not complete.")
    if code is None:
        return None
    headers = dict(error.headers or {})
    if code == "unauthorized":
        headers["WWW-Authenticate"] = "Bearer"
    if code == "not_found":
        return Told(code, str(NotFound()))
    if isinstance(error, ValidationException):
        return Told(code, "The request is not valid.", headers, {"errors": _fields(error)})
    return Told(code, error.detail, headers)


def problem_of(error: Exception, path: str) -> Problem:
    """The answer to a request for a path that ended with an error; a defect is logged."""
    told = told_of(error)
    if told is None:
        log.error("request failed", path=path, exc_info=error)
        told = Told("internal_error", "Something went wrong on our side.")
    return problem(told.code, told.detail, headers=told.headers, **told.more)


def _fields(error: ValidationException) -> list[dict[str, str]]:
    """Which field, and what is wrong with it; never the value."""
    extra = error.extra if isinstance(error.extra, list) else []
    return [
        {"field": str(item.get("key", "body")), "message": str(item.get("message", "invalid"))}
        for item in extra[:FIELDS_MAX]
    ]


def _handle(request: Request[Any, Any, Any], error: Exception) -> Problem:
    answer = problem_of(error, request.scope["path"])
    request.scope["state"][PROBLEM_CODE] = answer.code  # who counts requests finds it there
    return answer


HANDLERS: Final[dict[Any, Any]] = dict.fromkeys((HeadwaterError, HTTPException, Exception), _handle)
