"""What a HEADWATER_REDIS_URL names."""

from __future__ import annotations

import pytest

from shared.errors import SettingsError
from shared.redis_urls import parse_redis_url


def test_a_plain_url_is_the_drivers_to_read() -> None:
    assert parse_redis_url("redis://:p@h:1/2").kind == "single"
    assert parse_redis_url("rediss://h").kind == "single"
    assert parse_redis_url("unix:///run/redis.sock").kind == "single"


def test_a_cluster_is_named_by_any_of_its_servers() -> None:
    named = parse_redis_url("redis+cluster://user:p%40ss@one:7000,two,[::1]:7002")
    assert named.kind == "cluster"
    assert named.addresses == (("one", 7000), ("two", 6379), ("::1", 7002))
    assert named.options == {"username": "user", "password": "p@ss"}


def test_a_cluster_may_be_encrypted() -> None:
    named = parse_redis_url("rediss+cluster://one:7000/0?ssl_ca_certs=/ca.pem")
    assert named.options["connection_class"].__name__ == "SSLConnection"
    assert named.options["ssl_ca_certs"] == "/ca.pem"


def test_sentinels_name_a_service_and_may_have_a_password_of_their_own() -> None:
    named = parse_redis_url(
        "redis+sentinel://user:pass@one,two:5000/main/3?sentinel_password=other&sentinel_username=s"
    )
    assert named.kind == "sentinel"
    assert named.addresses == (("one", 26379), ("two", 5000))
    assert named.service == "main"
    assert named.options == {"username": "user", "password": "pass", "db": 3}
    assert named.sentinel_options == {"username": "s", "password": "other"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://one:7000/3", "database 0 only"),
        ("redis+sentinel://one:5000", "by its name"),
        ("redis+cluster://", "a host is missing"),
        ("redis+cluster://one,,two", "a host is missing"),
        ("redis+cluster://one:port", "Port"),
        ("redis+ring://one", "no such scheme"),
        ("http+cluster://one", "no such scheme"),
    ],
)
def test_what_names_nothing_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"HEADWATER_REDIS_URL.*{why}") as refused:
        parse_redis_url(url.replace("://", "://user:secret@") if "://one" in url else url)
    assert "secret" not in str(refused.value)
