"""Where the gateway is, and what the console says it is."""

from __future__ import annotations

import time

import jwt
import pytest

from infra.console.access import TOKEN_SECONDS, Access, gateway_url
from shared.hot_state import Job
from shared.settings import Settings

SECRET = "0123456789abcdef0123456789abcdef"
JOB = Job(
    job_id="job_00" + "0" * 32,
    thread_id="thr_" + "0" * 32,
    owner="bob",
    status="running",
    attempt=1,
    last_seq=1,
    first=2,
    reply_id="msg_00" + "0" * 32,
    trace_id="0" * 32,
    created_at="2026-01-02T03:04:05.678Z",
    started_at=None,
    finished_at=None,
    done=None,
)


def settings(**fields: str) -> Settings:
    return Settings.model_validate({"auth_secret": SECRET, "port": 1234, **fields})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:1234"),
        ("::", "http://127.0.0.1:1234"),
        ("::1", "http://[::1]:1234"),
        ("gateway.internal", "http://gateway.internal:1234"),
    ],
)
def test_gateway_is_where_the_settings_say(host: str, url: str) -> None:
    assert gateway_url(settings(host=host)) == url


def test_token_speaks_for_the_owner_and_soon_ends() -> None:
    headers = Access(JOB, "", settings(auth_audience="hw", auth_issuer="ops")).headers()
    token = headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="hw", issuer="ops")
    assert claims["sub"] == "bob"
    assert 0 < claims["exp"] - time.time() <= TOKEN_SECONDS
