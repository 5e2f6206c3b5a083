"""Which key of a set may verify which token."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.signing_keys import ALGORITHMS, KEYS_MAX, KeySet, read_key_set
from tests.support.issuer import IssuerKey

ENTRY_FIELDS = ("kty", "crv", "kid", "alg", "use", "key_ops", "n", "e", "x", "y")


@cache
def key(algorithm: str, name: str = "key") -> IssuerKey:
    return IssuerKey.new(algorithm, name)


def set_of(*entries: Any) -> KeySet:
    return read_key_set(json.dumps({"keys": entries}).encode())


def refused(*entries: Any) -> None:
    with pytest.raises(ValueError, match="no key for"):
        set_of(*entries)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_key_is_found_by_algorithm_and_id(algorithm: str) -> None:
    keys = set_of(*(key(name, name).published() for name in sorted(ALGORITHMS)))
    assert keys.has(algorithm)
    assert keys.find(algorithm, algorithm) == key(algorithm, algorithm).private.public_key()
    for other in ALGORITHMS - {algorithm}:
        assert keys.find(other, algorithm) is None
    for algorithm_of_none in ("HS256", "none", "RS512", "ES384", "PS256", ""):
        assert keys.find(algorithm_of_none, algorithm) is None


def test_among_several_keys_a_token_must_name_its_own() -> None:
    one, other = key("RS256", "one"), key("ES256", "other")
    several = set_of(one.published(), other.published())
    assert several.find("RS256", None) is None
    assert several.find("RS256", "other") is None
    assert several.find("RS256", "third") is None
    assert set_of(one.published()).find("RS256", None) is not None
    assert set_of(one.published()).find("ES256", None) is None


def test_two_keys_of_one_name_are_told_apart_by_their_kind_only() -> None:
    mixed = set_of(key("RS256").published(), key("ES256").published())
    assert mixed.find("RS256", "key") is not None
    assert mixed.find("ES256", "key") is not None
    twins = set_of(key("EdDSA").published(), IssuerKey.new("EdDSA").published())
    assert twins.find("EdDSA", "key") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC"},
        {"crv": "P-256"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kid": 7},
        {"kid": ["key"]},
        {"d": "AQAB"},
        {"n": "!"},
        {"n": 5},
        {"n": None},
        {"e": ""},
        {"e": "Ag"},
    ],
    ids=str,
)
def test_a_key_that_is_not_for_this_is_passed_over(changes: dict[str, Any]) -> None:
    refused(key("RS256").published(**changes))


@pytest.mark.parametrize("changes", [{"x": "AA"}, {"y": None}, {"x": 1}, {"crv": "P-384"}])
def test_a_point_off_its_curve_is_passed_over(changes: dict[str, Any]) -> None:
    refused(key("ES256").published(alg=None, **changes))


@pytest.mark.parametrize("changes", [{"x": "AA"}, {"x": None}, {"crv": "X25519"}])
def test_a_key_of_another_edwards_curve_is_passed_over(changes: dict[str, Any]) -> None:
    refused(key("EdDSA").published(alg=None, **changes))


@pytest.mark.parametrize("change", [{"use": None}, {"alg": None}, {"key_ops": ["verify"]}])
def test_what_is_not_said_is_not_held_against_a_key(change: dict[str, Any]) -> None:
    assert set_of(key("RS256").published(**change)).find("RS256", "key") is not None


def test_a_short_rsa_key_is_passed_over() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    refused(IssuerKey("key", "RS256", short).published())


def test_a_bad_key_does_not_spoil_the_good_ones() -> None:
    bad = [None, 1, [], {}, {"kty": "RSA"}, {"kty": ["RSA"], "crv": {}}, {"kty": "oct", "k": "x"}]
    assert set_of(*bad, key("ES256").published()).find("ES256", "key") is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": null}',
        b'{"keys": []}',
        b"[" * 100_000,
        json.dumps({"keys": [{}] * (KEYS_MAX + 1)}).encode(),
    ],
    ids=lambda body: body[:12],
)
def test_what_is_no_key_set_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        read_key_set(body)


ODD: list[Any] = [None, True, 0, -1, 7.5, 2**70, "", "!", "AQAB", [], ["verify"], {}, {"x": 1}]
KNOWN = ["RSA", "EC", "OKP", "P-256", "Ed25519", "sig", "RS256", "ES256", "EdDSA", "A" * 43]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ENTRY_FIELDS), st.sampled_from(ODD + KNOWN)))
def test_nothing_that_an_issuer_says_breaks_the_reader(entry: dict[str, Any]) -> None:
    good = key("EdDSA", "good").published()
    assert set_of(entry, good).find("EdDSA", "good") is not None
