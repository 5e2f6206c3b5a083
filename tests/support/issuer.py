"""An issuer of tokens: its keys, and the server that publishes them, well or badly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

TOKEN_SECONDS = 3600
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class IssuerKey:
    """A key pair; ``name`` is its ``kid``."""

    name: str
    algorithm: str
    private: Any

    @classmethod
    def new(cls, algorithm: str, name: str = "key") -> IssuerKey:
        return cls(name, algorithm, _MAKERS[algorithm]())

    def published(self, **changes: Any) -> dict[str, Any]:
        """The public half as an entry of a key set; a change to None leaves a field out."""
        public = json.loads(_WRITERS[self.algorithm](self.private.public_key()))
        public.pop("key_ops", None)
        entry = {**public, "kid": self.name, "use": "sig", "alg": self.algorithm, **changes}
        return {name: value for name, value in entry.items() if value is not None}

    def token(self, user: str, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Signed with this key; a header of None is left out."""
        named: dict[str, Any] = {"kid": self.name, **(headers or {})}
        named = {name: value for name, value in named.items() if value is not None}
        body = {"sub": user, "exp": int(time.time() + TOKEN_SECONDS), **claims}
        return jwt.encode(body, self.private, algorithm=self.algorithm, headers=named)


_MAKERS: dict[str, Callable[[], PrivateKey]] = {
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_WRITERS: dict[str, Callable[[Any], str]] = {
    "RS256": RSAAlgorithm.to_jwk,
    "ES256": ECAlgorithm.to_jwk,
    "EdDSA": OKPAlgorithm.to_jwk,
}


def key_set(*keys: IssuerKey) -> bytes:
    return json.dumps({"keys": [key.published() for key in keys]}).encode()


@dataclass
class Issuer:
    """``asked`` counts its visitors. ``body`` is what they get, unless ``answer`` says otherwise.

    While ``open`` is cleared they wait.
    """

    body: bytes = b'{"keys": []}'
    answer: Answer | None = None
    asked: int = 0
    url: str = ""
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.open.wait()
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=self.body, content_type="application/jwk-set+json")


@asynccontextmanager
async def running_issuer(*keys: IssuerKey) -> AsyncGenerator[Issuer]:
    issuer = Issuer(body=key_set(*keys))
    issuer.open.set()
    application = web.Application()
    application.router.add_get("/{path:.*}", issuer.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        issuer.url = f"http://{host}:{port}/keys"
        yield issuer
    finally:
        issuer.open.set()
        await runner.cleanup()
