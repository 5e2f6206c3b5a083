"""The issuer's public keys: fetched in the background, kept, and looked up by every token.

    token ──▶ find ──known──▶ key
                │ unknown                       ┌──────────────── rest ◀───────────────┐
                └──▶ wanted ──▶ idle, at most REFRESH_SECONDS ──▶ fetch ──▶ set or keep ┘

One task fetches, so there is never more than one fetch under way, and between two of them it rests
for REST_SECONDS whatever comes. Requests whose key is known never wait. One whose key is not waits
for the fetch that runs or is about to, FETCH_SECONDS_MAX long; during a rest it is told at once.

Failures
    Issuer away, or its      The keys that are known stay, however long it lasts. Tokens of unknown
    answer of no use         keys get KeysUnavailable: nobody can say that they are wrong.
    Made-up key ids          Refused. They cost the issuer one fetch per rest.
    New key, while resting   Refused until the rest is over; the fetch then comes by itself. Issuers
                             that publish a key REFRESH_SECONDS before they use it are not felt.
    Key taken back           Refused from the next refresh on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import aiohttp

from services.api.signing_keys import ALGORITHMS, KeySet, read_key_set
from shared.cancellation import end_tasks
from shared.errors import KeysUnavailable
from shared.observability import get_logger

REST_SECONDS: Final = 30.0  # between two fetches, at least
REFRESH_SECONDS: Final = 300.0  # between two fetches, at most
FETCH_SECONDS_MAX: Final = 5.0
SET_BYTES_MAX: Final = 256 * 1024
STOP_SECONDS_MAX: Final = 2.0
_HEADERS: Final = {
    "Accept": "application/jwk-set+json, application/json",
    "Accept-Encoding": "identity",  # so that its size is what is read
    "User-Agent": "headwater",
}

log = get_logger()


class FetchedKeys:
    """One per process. ``start`` it in the loop whose requests will ask for keys."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: KeySet | None = None
        self._is_well = False  # the last fetch brought a set
        self._is_resting = False
        self._wanted = asyncio.Event()
        self._fetched = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    @property
    def has_any(self) -> bool:
        """Whether a set was fetched since the start."""
        return self._known is not None

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._fetch_for_ever(), name="keys.fetch")]

    async def stop(self) -> None:
        await end_tasks(self._tasks, seconds_max=STOP_SECONDS_MAX)

    async def find(self, algorithm: str, key_id: str | None) -> Any | None:
        """The key for a token's header, None if there is none. Raises KeysUnavailable."""
        if algorithm not in ALGORITHMS:
            return None
        if self._lacks(key_id):
            await self._next_fetch()
        if self._lacks(key_id):
            self._wanted.set()  # the fetch that ended may have begun too early
            if not self._is_well:
                raise KeysUnavailable()
        return self._known.find(algorithm, key_id) if self._known else None

    def _lacks(self, key_id: str | None) -> bool:
        """Whether a fetch might find what is not known."""
        return self._known is None or (key_id is not None and not self._known.has(key_id))

    async def _next_fetch(self) -> None:
        """Until the fetch that runs, or now begins, is over; not at all during a rest.

        Raises KeysUnavailable.
        """
        self._wanted.set()
        if self._is_resting:
            return
        self._fetched.clear()
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                await self._fetched.wait()
        except TimeoutError:
            raise KeysUnavailable() from None

    async def _fetch_for_ever(self) -> None:
        async with aiohttp.ClientSession(
            headers=_HEADERS, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session:
            while True:
                await self._fetch(session)
                self._is_resting = True
                self._fetched.set()
                await asyncio.sleep(REST_SECONDS)
                self._is_resting = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_SECONDS - REST_SECONDS):
                        await self._wanted.wait()

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                self._known = read_key_set(await self._download(session))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._is_well = False
            self._wanted.set()
            log.warning("keys not fetched", reason=str(error) or type(error).__name__)
        else:
            self._is_well = True
            self._wanted.clear()

    async def _download(self, session: aiohttp.ClientSession) -> bytes:
        """Redirects are not followed: the keys come from where the operator said."""
        async with session.get(self._url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"the issuer answered {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > SET_BYTES_MAX:
                    raise ValueError(f"the key set is longer than {SET_BYTES_MAX} bytes")
            return bytes(body)
