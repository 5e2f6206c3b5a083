"""Which errors of the driver mean that the log is unavailable, and which are defects of ours."""

from __future__ import annotations

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from shared.errors import LogUnavailable
from shared.redis_client import translate, translated_error


@pytest.mark.parametrize(
    "reply",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Errors writing to the AOF file: No space left on device",
        "NOREPLICAS Not enough good replicas to write.",
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "NOAUTH Authentication required.",
    ],
)
def test_a_server_that_refuses_is_unavailable(reply: str) -> None:
    with pytest.raises(LogUnavailable, match="Redis"), translate():
        raise BaseParser.parse_error(reply)


@pytest.mark.parametrize("error", [ConnectionError("gone"), TimeoutError("slow")])
def test_a_server_out_of_reach_is_unavailable(error: RedisError) -> None:
    assert isinstance(translated_error(error), LogUnavailable)


@pytest.mark.parametrize(
    "reply",
    [
        "ERR Error running script: attempt to compare nil with number",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOPERM User has no permissions",
        "NOGROUP No such consumer group",
        "CROSSSLOT Keys in request don't hash to the same slot",
    ],
)
def test_a_defect_of_ours_stays_what_it_is(reply: str) -> None:
    error = BaseParser.parse_error(reply)
    assert translated_error(error) is error
    with pytest.raises(type(error)), translate():
        raise error


def test_the_driver_s_error_is_kept_as_the_cause() -> None:
    cause = ConnectionError("gone")
    with pytest.raises(LogUnavailable) as caught, translate():
        raise cause
    assert caught.value.__cause__ is cause
