"""Tokens for the tests, valid ones and others, and a clock that stands where a test puts it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import jwt

from edge.auth.authentication import SharedSecret, TokenAuthenticator
from tests.integration.edge.replicas import Replica, replica

SECRET = "a secret of the tests, long enough for every algorithm that a test may try"
NOW_S = 2_000_000_000.0
"""Far from the real time, so that a test fails where that is read instead."""


@dataclass
class Clock:
    """Unix time, as a test has it."""

    now_s: float = NOW_S

    def __call__(self) -> float:
        """The time now."""
        return self.now_s


def claims(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - a claim may be anything
    """Those of a valid token of Ana's, of tenant acme; None takes one away."""
    all_of = {"sub": "ana", "tenant_id": "acme", "scope": "ingest read", "exp": NOW_S + 600, **more}
    return {name: value for name, value in all_of.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **more: Any) -> str:  # noqa: ANN401
    """A signed token."""
    return jwt.encode(claims(**more), key, algorithm, headers=None if kid is None else {"kid": kid})


def bearer(text: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {text}"}


def authenticator(clock: Clock | None = None, **more: Any) -> TokenAuthenticator:  # noqa: ANN401
    """Takes tokens of `token`."""
    return TokenAuthenticator(SharedSecret(SECRET), now=clock or Clock(), **more)


@contextlib.asynccontextmanager
async def guarded(redis_url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[Replica]:  # noqa: ANN401
    """An edge that wants tokens, on a clock of the test's."""
    clock = clock or Clock()
    some = {"session_end_timeout_s": 0.2, **settings}
    async with replica(redis_url, authenticator=authenticator(clock), now=clock, **some) as edge:
        yield edge
