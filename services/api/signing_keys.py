"""Which public key may verify which token: a JSON Web Key Set (RFC 7517), looked up by header.

The algorithm that a token names decides which kind of key may be taken for it, and each key of a
set is of one kind. So a public key is never used as a shared secret, nor for another algorithm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from jwt import PyJWK
from jwt.exceptions import PyJWTError

KEYS_MAX: Final = 64  # of one set
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192  # longer ones cost more time than any issuer needs
_KINDS: Final = {  # type and curve of the keys of an algorithm
    "RS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}
ALGORITHMS: Final = frozenset(_KINDS)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``key`` is what PyJWT verifies with."""

    algorithm: str
    key_id: str | None
    key: Any


class KeySet:
    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = tuple(keys)

    def has(self, key_id: str) -> bool:
        return any(key.key_id == key_id for key in self._keys)

    def find(self, algorithm: str, key_id: str | None) -> Any | None:
        """The key for a token's header, if there is exactly one.

        A token may leave the id out only where the whole set is one key.
        """
        named = [key for key in self._keys if key_id in (None, key.key_id)]
        fitting = [key for key in named if key.algorithm == algorithm]
        is_certain = len(fitting) == 1 and (key_id is not None or len(named) == 1)
        return fitting[0].key if is_certain else None


def read_key_set(body: bytes) -> KeySet:
    """The keys of a set that can verify tokens; others are passed over, as the RFC asks.

    Raises ValueError: it is no key set, or none of its keys can be used.
    """
    try:
        entries = json.loads(body)["keys"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError("it is no key set") from None
    if not isinstance(entries, list) or len(cast("list[Any]", entries)) > KEYS_MAX:
        raise ValueError(f"it is no list of at most {KEYS_MAX} keys")
    keys = [key for entry in cast("list[Any]", entries) if (key := _signing_key(entry))]
    if not keys:
        raise ValueError(f"it has no key for {', '.join(_KINDS)}")
    return KeySet(keys)


def _signing_key(entry: Any) -> SigningKey | None:
    """The key, if it is public, sound, and meant for verifying with an algorithm of ours."""
    if not isinstance(entry, dict):
        return None
    entry = cast("dict[str, Any]", entry)
    algorithm = _algorithm(entry)
    if algorithm is None:
        return None
    try:
        key = PyJWK.from_dict(entry, algorithm).key
    except (PyJWTError, LookupError):
        return None
    if algorithm == "RS256" and not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        return None
    return SigningKey(algorithm, entry.get("kid"), key)


def _algorithm(entry: dict[str, Any]) -> str | None:
    kind = (entry.get("kty"), entry.get("crv"))
    algorithm = next((name for name, wanted in _KINDS.items() if wanted == kind), None)
    operations = entry.get("key_ops", ["verify"])
    is_meant = (
        "d" not in entry  # a private key that everybody can read proves nothing
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
        and isinstance(entry.get("kid", ""), str)
    )
    return algorithm if is_meant else None
