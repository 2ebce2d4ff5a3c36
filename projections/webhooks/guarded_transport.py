"""Guards against SSRF: a receiver's name is resolved once, its addresses checked, and one of these connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore2

from eventlog.projection.webhook_targets import is_public

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host and port, the preferred ones first; raises `OSError` if it has none."""

RESOLVING_THREADS = 8
"""The system's resolver blocks for seconds where a name server is silent; only it uses these."""

MOST_TRIED = 4
"""Addresses of one name: two of each family. The bound on a connection is shared among them."""


class NotPublicError(Exception):
    """A name with an address that isn't public."""


class UnresolvedError(Exception):
    """A name without an address at present."""


class SystemResolver:
    """Resolves as the system does, on threads of its own."""

    def __init__(self) -> None:
        """Threads begin with the first name."""
        self._threads = ThreadPoolExecutor(RESOLVING_THREADS, thread_name_prefix="webhook-resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """See `Resolver`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _resolved, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Start no more look-ups; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolved(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses alone.

    The connection goes to an address that was checked, never to a name that might mean another by then. TLS and the
    ``Host`` header still carry the name, so certificates are checked as usual.
    """

    def __init__(self, resolve: Resolver, *, private: bool) -> None:
        """Ask `resolve` for addresses; with `private` all of them are allowed."""
        self._resolve = resolve
        self._private = private
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None, socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        """A connection to `host`.

        Raises:
            NotPublicError: if any of its addresses isn't public.
            UnresolvedError: if it has none.
            httpcore2.ConnectError: if none of them answers.
        """
        addresses = (await self._resolve_public(host, port))[:MOST_TRIED]
        each_s = None if timeout is None else timeout / len(addresses)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, each_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError("none of its addresses answers") from failure

    async def _resolve_public(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise UnresolvedError from error
        if not addresses:
            raise UnresolvedError
        # One that isn't is enough: an attacker that mixes them waits for the day when the public one doesn't answer.
        if not self._private and not all(map(is_public, addresses)):
            raise NotPublicError
        return addresses

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        """Never: no address means a socket file.

        Raises:
            NotPublicError: always.
        """
        del path, timeout, socket_options
        raise NotPublicError

    async def sleep(self, seconds: float) -> None:
        """Pause, as the library asks for between its own retries, of which it makes none here."""
        await self._backend.sleep(seconds)
