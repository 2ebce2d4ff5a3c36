"""The issuer's public keys (JWKS, RFC 7517): kept while the issuer is unreachable, fetched again for unknown ids."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import jwt
import msgspec

from edge import errors
from edge.auth.authentication import VerificationKey
from edge.errors import ApiError

logger = logging.getLogger(__name__)

REFRESH_S = 300.0
"""The longest time until a key that the issuer withdrew is refused, while the issuer can be reached."""

COOL_DOWN_S = 10.0
"""Between two fetches: tokens with invented key ids must not make the edge flood the issuer."""

TIMEOUT_S = 5.0
"""Handshakes with a new key wait for it, and users wait for handshakes."""

MOST_BYTES = 262_144
"""A key set has a handful of keys of about a kilobyte each, with certificates ten."""

# The one algorithm for each kind of key; symmetric keys have no place in a public set.
_ALGORITHMS = {("RSA", "None"): "RS256", ("EC", "P-256"): "ES256"}


class KeySet(msgspec.Struct):
    """A JWKS document."""

    keys: list[dict[str, Any]]


class IssuerKeys:
    """Keys from a URL or a file; one per process, safe for concurrent use."""

    def __init__(self, source: str, *, now: Callable[[], float] = time.monotonic) -> None:
        """Read them from `source`: an ``http://`` or ``https://`` URL, or the path of a file."""
        self._source = source
        self._now = now
        self._keys: Mapping[str | None, VerificationKey] = {}
        self._tried_at = -COOL_DOWN_S
        self._fetched_at = -REFRESH_S
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> VerificationKey | None:
        """See `VerificationKeys`; a token without a key id is accepted while the set has only one key."""
        found = self._keys.get(kid)
        if found is None:
            await self.refresh()
            found = self._keys.get(kid)
        elif self._now() - self._fetched_at > REFRESH_S and self._refreshing is None:
            self._refreshing = asyncio.create_task(self.refresh())
            self._refreshing.add_done_callback(self._on_refreshed)
        if found is None and not self._keys:
            raise ApiError(errors.LOG_UNAVAILABLE, "the keys of the tokens' issuer cannot be fetched at the moment")
        return found

    async def refresh(self) -> None:
        """Fetch the keys, unless a fetch was tried just now; a failure keeps the known ones."""
        async with self._lock:
            if self._now() - self._tried_at < COOL_DOWN_S:
                return
            self._tried_at = self._now()
            try:
                keys = read_keys(await self._fetch())
            except (OSError, httpx2.HTTPError, httpx2.InvalidURL, msgspec.MsgspecError, ValueError) as error:
                logger.warning("issuer keys not fetched", extra={"error": error})
                return
            self._keys = keys
            self._fetched_at = self._now()

    def _on_refreshed(self, done: asyncio.Task[None]) -> None:
        self._refreshing = None
        if not done.cancelled():
            done.result()

    async def _fetch(self) -> bytes:
        if "://" not in self._source:
            return await asyncio.to_thread(Path(self._source).read_bytes)
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream("GET", self._source, headers={"accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    msg = f"a key set of more than {MOST_BYTES} bytes"
                    raise ValueError(msg)
            return body


def read_keys(document: bytes) -> Mapping[str | None, VerificationKey]:
    """Read the signature keys of a JWKS document, by key id; an only key also by None.

    Raises:
        ValueError: if it holds no usable key.
        msgspec.MsgspecError: if it is not a JWKS document.
    """
    found: dict[str | None, VerificationKey] = {}
    for number, one in enumerate(msgspec.json.decode(document, type=KeySet).keys):
        algorithm = _ALGORITHMS.get((str(one.get("kty")), str(one.get("crv"))))
        if algorithm is None or one.get("use", "sig") != "sig" or one.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(one, algorithm).key
        except jwt.PyJWTError:
            logger.warning("issuer key unreadable; skipping it", extra={"number": number})
            continue
        found[str(one.get("kid", f"#{number}"))] = VerificationKey(key, algorithm)
    if not found:
        msg = "no RS256 or ES256 key in the issuer's set"
        raise ValueError(msg)
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found
