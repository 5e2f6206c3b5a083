"""Settings: read from the environment, checked at once, and refused in words that help."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import SettingsError
from shared.settings import PREFIX, Settings, load_settings


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    return load_settings()


def complaint(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(monkeypatch, **variables)
    return str(refused.value)


def test_nothing_needs_to_be_set() -> None:
    settings = load_settings()
    assert (settings.partitions, settings.lease_seconds, settings.heartbeat_seconds) == (8, 5, 1)
    assert (settings.port, settings.data_dir) == (8080, Path(".headwater"))
    assert settings.redis_url is None


def test_every_field_says_what_it_is() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"
        assert not field.is_required(), f"{name} has no default"


def test_values_are_read_as_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        PORT="9000",
        DATA_DIR="elsewhere",
        LEASE_SECONDS="9.5",
        CORS_ORIGINS="https://a.example, https://b.example,",
        REDIS_URL="redis://127.0.0.1",
    )
    assert (settings.port, settings.data_dir, settings.lease_seconds) == (
        9000,
        Path("elsewhere"),
        9.5,
    )
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.redis_url == "redis://127.0.0.1"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.a.example", "null", "a.example", "https://a.example/", "https://a.example/b",
     "HTTPS://a.example", "https://u@a.example", "ftp://a.example", "https://a.example:x"],
)  # fmt: skip
def test_an_origin_is_one_that_a_browser_sends(
    monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        load(monkeypatch, CORS_ORIGINS=f"http://localhost:5173,https://[::1]:8443,{origin}")


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, REDIS_URL="", PARTITIONS="", AUTH_SECRET="")
    assert (settings.redis_url, settings.partitions, settings.auth_secret) == (None, 8, None)


def test_other_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, SOMETHING_ELSE="1") == load_settings()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("PORT", "x", "valid integer"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PARTITIONS", "0", "greater than or equal to 1"),
        ("PARTITIONS", "257", "less than or equal to 256"),
        ("LEASE_SECONDS", "0", "greater than 0"),
        ("LEASE_SECONDS", "inf", "less than"),
        ("LLM_TIMEOUT_SECONDS", "nan", "less than"),
        ("ATTEMPTS_MAX", "1.5", "valid integer"),
        ("LOG_LEVEL", "LOUD", "DEBUG"),
        ("LOG_FORMAT", "xml", "json|console"),
        ("AUTH_SECRET", "short", "at least 32 bytes"),
        ("AUTH_JWKS_URL", "http://issuer.example/keys", "loopback"),
        ("AUTH_JWKS_URL", "http://127.0.0.1.example/keys", "loopback"),
        ("AUTH_JWKS_URL", "http://10.0.0.1/keys", "loopback"),
        ("AUTH_JWKS_URL", "file:///etc/keys", "loopback"),
        ("AUTH_JWKS_URL", "https:///keys", "loopback"),
        ("AUTH_JWKS_URL", "issuer.example/keys", "loopback"),
    ],
)
def test_a_bad_value_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    [line] = complaint(monkeypatch, **{name: value}).splitlines()
    assert line.startswith(f"{PREFIX}{name}: ")
    assert reason in line


def test_every_bad_value_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaint(monkeypatch, PORT="x", PARTITIONS="x").splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{PREFIX}PORT", f"{PREFIX}PARTITIONS"]


def test_a_complaint_does_not_repeat_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in complaint(monkeypatch, AUTH_SECRET="hunter2")


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/keys?v=1",
        "http://127.0.0.1:1/keys",
        "http://127.9.9.9/keys",
        "http://[::1]:1/keys",
        "http://localhost/keys",
    ],
)
def test_keys_come_from_whom_it_says(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert load(monkeypatch, AUTH_JWKS_URL=url).auth_jwks_url == url


@pytest.mark.parametrize(("bytes_", "good"), [(31, False), (32, True)])
def test_a_secret_is_as_long_as_its_hash(
    monkeypatch: pytest.MonkeyPatch, bytes_: int, good: bool
) -> None:
    secret = "é" * (bytes_ // 2) + "x" * (bytes_ % 2)
    if good:
        assert load(monkeypatch, AUTH_SECRET=secret).auth_secret == secret
    else:
        assert "32 bytes" in complaint(monkeypatch, AUTH_SECRET=secret)


@pytest.mark.parametrize(
    ("lease", "beat", "good"),
    [("3", None, True), ("2.9", None, False), ("9", "3", True), ("9", "3.1", False)],
)
def test_a_lease_is_three_beats_long(
    monkeypatch: pytest.MonkeyPatch, lease: str, beat: str | None, good: bool
) -> None:
    """The default beat too: a shorter lease alone would let jobs be taken from living workers."""
    variables = {"LEASE_SECONDS": lease} | ({"HEARTBEAT_SECONDS": beat} if beat else {})
    if good:
        assert load(monkeypatch, **variables).lease_seconds == float(lease)
    else:
        assert "a third of HEADWATER_LEASE_SECONDS" in complaint(monkeypatch, **variables)


def test_what_a_process_needs_it_asks_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="HEADWATER_REDIS_URL is not set"):
        load_settings().required("redis_url")
    assert load(monkeypatch, REDIS_URL="redis://x").required("redis_url") == "redis://x"


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


def test_each_process_is_a_consumer_of_its_own() -> None:
    assert str(os.getpid()) in load_settings().consumer_name


def test_trusted_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    named = load(monkeypatch, TRUSTED_PROXIES="10.0.0.0/8, ::1")
    assert named.trusted_proxies == ("10.0.0.0/8", "::1")
    for wrong in ("proxy.example", "*", "10.0.0.300"):
        assert "HEADWATER_TRUSTED_PROXIES" in complaint(monkeypatch, TRUSTED_PROXIES=wrong)
