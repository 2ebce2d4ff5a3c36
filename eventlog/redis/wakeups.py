"""Wake-ups: sharded channels that say "look now", on one Redis and on a cluster alike.

Nothing depends on a wake-up: every subscriber also polls now and then, and polls everything after `on_reset`. A wake-up
only makes that poll come within a millisecond.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hiredis
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError, SlotNotCoveredError

from eventlog.log import LogUnavailableError
from eventlog.redis.failures import RedisCall
from eventlog.redis.server import Server
from eventlog.service import ServiceTasks

PING_AFTER_S = 5.0
"""Silence after which the connection is pinged: half-dead ones show within twice that; a ping is 14 bytes."""

CONFIRM_TIMEOUT_S = 5.0
"""A healthy server confirms a subscription in under a millisecond; as long as any call may take."""

BACK_OFF_FIRST_S = 0.05
"""A restarted server is back this soon at best."""

BACK_OFF_MAX_S = 2.0
"""Subscribers poll each second anyway, so wake-ups that come back two seconds late cost little."""

CANCEL_AGAIN_S = 0.2
"""Far longer than a cancelled task takes to end; redis-py can swallow a cancellation while it connects."""

_log = logging.getLogger(__name__)

OnMessage = Callable[[str, bytes], None]


class WakeupsLostError(Exception):
    """The subscription is gone: the connection broke, or a channel's slot has moved to another node."""


class Wakeups:
    """A subscription to many sharded channels, kept up over restarts, failovers and moved slots: a `Service`."""

    def __init__(
        self, server: Server, channels: Sequence[str], on_message: OnMessage, on_reset: Callable[[], None]
    ) -> None:
        """Listen to `channels` on connections of its own.

        Args:
            server: Where; only its addresses and options are used, not its connections.
            channels: Sharded channels, of any slots.
            on_message: Called with channel and payload; must be quick and must not raise.
            on_reset: Called after each (re)connection, since messages may have been missed.
        """
        self._server = server
        self._channels = tuple(channels)
        self._on_message = on_message
        self._on_reset = on_reset
        self._tasks = ServiceTasks()
        self._unsubscribed = set(self._channels)
        self._is_subscribed = asyncio.Event()
        self._is_started = False

    async def start(self) -> None:
        """Begin to subscribe; returns at once, also while Redis can't be reached."""
        if not self._is_started:
            self._is_started = True
            self._tasks.spawn("wakeups", self._keep(self._channels))

    async def wait(self) -> None:
        """See `eventlog.service.Service`; a lost connection ends nothing, it is made again."""
        await self._tasks.wait()

    async def stop(self) -> None:
        """Close the connections; safe at any time and more than once."""
        await self._tasks.stop(cancel_again_s=CANCEL_AGAIN_S)
        self._is_subscribed.clear()

    @property
    def is_listening(self) -> bool:
        """Whether every channel is subscribed, as far as is known."""
        return self._is_subscribed.is_set()

    async def listening(self) -> None:
        """Return as soon as every channel is subscribed."""
        await self._is_subscribed.wait()

    async def _keep(self, channels: tuple[str, ...]) -> None:
        """Listen to `channels` until cancelled; those on other nodes than the first are left to tasks of their own."""
        back_off_s, is_lost = BACK_OFF_FIRST_S, False
        while True:
            try:
                [(node, channels), *others] = await self._locate(channels, refresh=is_lost)
                for _, part in others:
                    self._tasks.spawn("wakeups", self._keep(part))
                async with contextlib.aclosing(_Connection(self._connection(node, channels[0]))) as connection:
                    with RedisCall():
                        await connection.subscribe(channels)
                    if is_lost:
                        _log.info("wake-ups restored")
                    back_off_s, is_lost = BACK_OFF_FIRST_S, False
                    self._unsubscribed.difference_update(channels)
                    if not self._unsubscribed:
                        self._is_subscribed.set()
                    self._on_reset()
                    with RedisCall():
                        await connection.listen(self._on_message)
            except Exception as error:  # noqa: BLE001 - a listener that ends permanently would be worse than any cause
                self._report_loss(error, is_lost=is_lost)
                is_lost = True
                self._unsubscribed.update(channels)
                self._is_subscribed.clear()
            # Spread out, or every process would come back to a restarted server in the same instant.
            await asyncio.sleep(back_off_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            back_off_s = min(2 * back_off_s, BACK_OFF_MAX_S)

    @staticmethod
    def _report_loss(error: Exception, *, is_lost: bool) -> None:
        if not isinstance(error, WakeupsLostError | LogUnavailableError | RedisError | OSError):
            _log.error("wake-ups lost by a defect; subscribing again", exc_info=error)
        elif not is_lost:
            _log.warning("wake-ups lost; subscribing again", extra={"error": error})

    async def _locate(self, channels: tuple[str, ...], *, refresh: bool) -> list[tuple[str, tuple[str, ...]]]:
        """Return each node's name with the channels whose slots it has."""
        client = self._server.client
        if not isinstance(client, RedisCluster):
            return [("", channels)]
        with RedisCall():
            await (client.nodes_manager.initialize() if refresh else client.initialize())
        by_node: dict[str, list[str]] = {}
        for channel in channels:
            node = client.get_node_from_key(channel)
            if node is None:
                raise SlotNotCoveredError(channel)
            by_node.setdefault(node.name, []).append(channel)
        return [(node, tuple(part)) for node, part in by_node.items()]

    def _connection(self, node: str, channel: str) -> Any:  # noqa: ANN401 - redis-py's connections have no common public type
        client = self._server.client
        if not isinstance(client, RedisCluster):
            pool = client.connection_pool
            return pool.connection_class(**pool.connection_kwargs)
        found = client.get_node_from_key(channel)
        if found is None or found.name != node:
            raise WakeupsLostError(f"{channel} has moved")
        return found.connection_class(**found.connection_kwargs)


class _Connection:
    """One subscribed connection; redis-py connects, authenticates and parses, nothing more."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - as above
        self._connection = connection

    async def aclose(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe and wait for every confirmation.

        Raises:
            WakeupsLostError: if they don't come in time.
        """
        await self._connection.connect()
        # One command a channel: a cluster refuses channels of several slots in one.
        commands = self._connection.pack_commands([("SSUBSCRIBE", channel) for channel in channels])
        await self._connection.send_packed_command(commands, check_health=False)
        missing = {channel.encode() for channel in channels}
        async with asyncio.timeout(CONFIRM_TIMEOUT_S):
            while missing:
                answer = await self._read(CONFIRM_TIMEOUT_S)
                if answer is None:
                    raise WakeupsLostError("subscription not confirmed")
                if answer[0] == b"ssubscribe":
                    missing.discard(answer[1])

    async def listen(self, on_message: OnMessage) -> None:
        """Pass messages on until the subscription is lost.

        Raises:
            WakeupsLostError: when it is.
        """
        names: dict[bytes, str] = {}
        is_pinged = False
        while True:
            answer = await self._read(PING_AFTER_S)
            if answer is None:
                if is_pinged:
                    raise WakeupsLostError("no answer to a ping")
                await self._connection.send_command("PING", check_health=False)
                is_pinged = True
                continue
            is_pinged = False
            for kind, channel, *rest in (answer, *self._parsed()):
                if kind == b"smessage":
                    name = names.get(channel) or names.setdefault(channel, channel.decode())
                    on_message(name, rest[0])
                elif kind == b"sunsubscribe":
                    raise WakeupsLostError("a slot has moved")

    def _parsed(self) -> Iterator[Any]:
        """Yield answers that were received already: at thousands a second, timed reads would cost most of all."""
        reader = getattr(self._connection._parser, "_reader", None)  # noqa: SLF001 - no public way; a test holds it
        if isinstance(reader, hiredis.Reader):
            while (answer := reader.gets()) is not NOT_ENOUGH_DATA:
                yield answer

    async def _read(self, timeout_s: float) -> Any:  # noqa: ANN401 - Redis's answer
        return await self._connection.read_response(timeout=timeout_s, disconnect_on_error=False, push_request=True)
