"""Errors as RFC 9457 problem details, each with a stable `code`.

`code` is for programs, `detail` for people. Another's thing and a missing thing are the same 404.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException

from shared.errors import (
    ArchiveUnavailable,
    HeadwaterError,
    IdempotencyMismatch,
    LogUnavailable,
    NotFound,
    QueueFull,
    ThreadBusy,
)
from shared.observability import get_logger

RETRY_AFTER_SECONDS: Final = 1
PROBLEM_JSON: Final = "application/problem+json"

log = get_logger()

_CODES: Final[dict[type[HeadwaterError], tuple[int, str]]] = {
    NotFound: (404, "not_found"),
    ThreadBusy: (409, "thread_busy"),
    QueueFull: (429, "queue_full"),
    IdempotencyMismatch: (422, "idempotency_mismatch"),
    LogUnavailable: (503, "log_unavailable"),
    ArchiveUnavailable: (503, "archive_unavailable"),
}
_HTTP_CODES: Final = {
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


def problem(
    status: int, code: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response[bytes]:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return Response(
        json.dumps(body).encode(),
        status_code=status,
        media_type=PROBLEM_JSON,
        headers=headers or {},
    )


def on_headwater_error(_: Request[Any, Any, Any], error: HeadwaterError) -> Response[bytes]:
    status, code = _CODES.get(type(error), (500, "internal_error"))
    if status == 500:
        log.error("unexpected refusal", error=repr(error))
        return problem(500, "internal_error", "Something went wrong on our side.")
    passing = status in (503, 429)
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if passing else None
    return problem(status, code, str(error), headers=headers)


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    code = error.code if isinstance(error, BadRequest) else _HTTP_CODES.get(error.status_code)
    headers = dict(error.headers or {})
    if error.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    more = {"errors": _fields(error)} if isinstance(error, ValidationException) else {}
    detail = "The request is not valid." if more else error.detail
    if error.status_code == 404:
        detail = str(NotFound())
    return problem(error.status_code, code or "http_error", detail, headers=headers, **more)


def on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", path=request.scope["path"], exc_info=error)
    return problem(500, "internal_error", "Something went wrong on our side.")


def _fields(error: ValidationException) -> list[dict[str, str]]:
    """Which field, and what is wrong with it; never the value."""
    extra = error.extra if isinstance(error.extra, list) else []
    return [
        {"field": str(item.get("key", "body")), "message": str(item.get("message", "invalid"))}
        for item in extra
        if isinstance(item, dict)
    ]


HANDLERS: Final[dict[Any, Any]] = {
    HeadwaterError: on_headwater_error,
    HTTPException: on_http_error,
    Exception: on_unexpected,
}
JSON: Final = MediaType.JSON
