"""Checks of this project's own, for Schemathesis: it finds them by `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

from typing import Any, Final

import schemathesis
from schemathesis import GenerationMode

KNOWN_TO_NO_SCHEMA: Final = {
    "bad_cursor": "whether a cursor was given out",
    "cursor_ahead": "how far a stream has come",
    "unknown_agent": "which agents are configured",
    "idempotency_mismatch": "what a key was used with before",
}
NAMES_OF_USERS: Final = "/v1/threads/{thread_id}/participants/{user}"  # Unicode's categories decide


@schemathesis.check
def refused_only_for_what_no_schema_knows(_: Any, response: Any, case: Any) -> None:
    """A request that the document allows is refused for what it cannot say, never as not valid."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    if response.status_code not in (400, 422) or case.operation.path == NAMES_OF_USERS:
        return
    code = response.json()["code"]
    assert code in KNOWN_TO_NO_SCHEMA, f"the document allows what is refused with {code}"


@schemathesis.check
def every_refusal_is_a_problem(_: Any, response: Any, case: Any) -> None:
    """Also where the document says nothing: other methods, other types of bodies."""
    if response.status_code < 400 or case.method == "HEAD" or case.operation.path == "/readyz":
        return
    assert response.headers["content-type"] == ["application/problem+json"], response.headers
    assert response.json()["status"] == response.status_code


@schemathesis.check
def every_answer_has_an_id(_: Any, response: Any, __: Any) -> None:
    assert response.headers.get("x-request-id"), response.headers
