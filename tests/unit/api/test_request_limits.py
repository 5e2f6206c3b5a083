"""Whom a host's requests are counted to."""

from __future__ import annotations

import pytest

from services.api.request_limits import UNKNOWN_ADDRESS, address_of


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", UNKNOWN_ADDRESS),
        (None, UNKNOWN_ADDRESS),
        ("unix:", UNKNOWN_ADDRESS),
        ("nonsense" * 100, UNKNOWN_ADDRESS),
    ],
)
def test_address_of(host: str | None, address: str) -> None:
    assert address_of(host) == address
