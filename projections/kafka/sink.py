"""The sink `kafka`: every utterance, the end of every session and of every recorded file, as records of two topics."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from eventlog.events import Fact, SessionOpened
from projections.forwarding.sink import SENT, Outcome, Result
from projections.integration_events import Event, Kind, batch_kinds, drop_words, transcript_kinds
from projections.kafka.access import Access, Endpoint

if TYPE_CHECKING:
    from projections.kafka.publisher import Publisher

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""Bound of connecting: several times what TLS and the cluster's metadata take on a slow link."""

SEND_S = 20.0
"""Bound of one call; a broker that restarts is replaced by another in less."""

MOST_BYTES = 1_000_000
"""Of one record: just under the brokers' default (`message.max.bytes`, 1,048,588)."""

TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordTooLargeError"})
"""aiokafka's errors for a record that will never fit, by name: importing them here would import all of it."""

_HELD_UP = Result(Outcome.RETRY, "an earlier event of the session wasn't taken")


OPEN = Access()
"""Without TLS and without a user."""


class KafkaMissingError(Exception):
    """Faust isn't installed."""


class Kafka:
    """The sink `kafka`; see `projections.forwarding.sink.Sink`.

    The events of one session are sent one after the other, each once the one before it was acked: so none overtakes
    another, whatever fails. Sessions go side by side, and so share requests.
    """

    name = "kafka"
    most_events = 500
    most_calls = 4

    def __init__(
        self, url: str, *, access: Access = OPEN, most_bytes: int = MOST_BYTES, send_s: float = SEND_S,
    ) -> None:
        """Send to the brokers of `url`, by `access`.

        Args:
            url: The brokers as Faust takes them: ``kafka://host:9092``, several separated by semicolons.
            access: Their security settings.
            most_bytes: Bound of one record.
            send_s: Bound of one call.

        Raises:
            KafkaMissingError: if the extra `kafka` isn't installed.
            OSError: if a file of `access` can't be used.
        """
        # Once imported, Faust's module has no spec to be found.
        if "faust" not in sys.modules and importlib.util.find_spec("faust") is None:
            raise KafkaMissingError("the sink `kafka` needs Faust: pip install 'stenolog[kafka]'")
        self._endpoint = Endpoint(url, access, access.context(), most_bytes)
        self._send_s = send_s
        self._idempotent = True
        self._publisher: Publisher | None = None
        self._connecting = asyncio.Lock()

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """Utterances and ends; at a recorded file's end one event for each topic."""
        return (*transcript_kinds(opened, fact), *batch_kinds(opened, fact))

    async def start(self) -> None:
        """Import Faust. The first events connect, and are to be retried as long as that fails."""
        await _import_publisher()

    async def send(self, events: Sequence[Event]) -> Sequence[Result]:
        """Send them; returns within `CONNECT_S`, the bound of sending and the time to close."""
        try:
            publisher = await self._connected()
        except Exception as error:  # noqa: BLE001 - whatever it was, it may pass, and nothing was sent
            return [Result(Outcome.RETRY, f"no connection to Kafka: {_error_name(error)}")] * len(events)
        call = _Call(publisher, events, asyncio.get_running_loop().time() + self._send_s)
        results = await call.send()
        if any(result.outcome is Outcome.RETRY for result in results):
            # A record still under way in it would come after the next ones: return once it is gone.
            await self._discard(publisher)
        return results

    async def stop(self) -> None:
        """Close the connection."""
        if self._publisher is not None:
            await self._discard(self._publisher)

    async def _connected(self) -> Publisher:
        async with asyncio.timeout(CONNECT_S), self._connecting:
            if self._publisher is None:
                self._publisher = await self._connect()
            return self._publisher

    async def _connect(self) -> Publisher:
        make = (await _import_publisher()).Publisher
        try:
            return await _start(make(self._endpoint, idempotent=self._idempotent))
        except Exception as error:
            if not self._idempotent or "KafkaConnectionError" in _names(error):
                raise
            # Older brokers want a right for it, and some that only speak Kafka's protocol don't know it. It saves
            # duplicates; no promise of the sink depends on it.
            publisher = await _start(make(self._endpoint, idempotent=False))
            about = {"error": _error_name(error)}
            logger.warning("idempotent producer refused by the brokers; using a plain one", extra=about)
            self._idempotent = False
            return publisher

    async def _discard(self, publisher: Publisher) -> None:
        if self._publisher is publisher:
            self._publisher = None
        await publisher.close()


class _Call:
    """One call of `send`."""

    def __init__(self, publisher: Publisher, events: Sequence[Event], deadline: float) -> None:
        self._publisher, self._events, self._deadline = publisher, events, deadline
        self._results = [_HELD_UP] * len(events)

    async def send(self) -> Sequence[Result]:
        """Send all, and return the result of each."""
        sessions: dict[str, list[int]] = {}
        for number, event in enumerate(self._events):
            sessions.setdefault(event.session_id, []).append(number)
        async with asyncio.TaskGroup() as group:
            for numbers in sessions.values():
                group.create_task(self._send_session(numbers))
        return self._results

    async def _send_session(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._results[number] = result = await self._send_one(self._events[number])
            if result.outcome is Outcome.RETRY:
                return

    async def _publish(self, event: Event) -> None:
        try:
            await self._publisher.publish(event)
        except Exception as error:
            smaller = drop_words(event)
            if smaller is None or not _names(error) & TOO_LARGE:
                raise
            await self._publisher.publish(smaller)

    async def _send_one(self, event: Event) -> Result:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._publish(event)
        except msgspec.ValidationError as error:
            return Result(Outcome.REJECTED, f"doesn't fit the topic's type: {error}")
        except TimeoutError:
            return Result(Outcome.RETRY, "Kafka didn't ack in time")
        except Exception as error:  # noqa: BLE001 - Faust and aiokafka wrap each other's; the name decides, and it may pass
            outcome = Outcome.REJECTED if _names(error) & TOO_LARGE else Outcome.RETRY
            return Result(outcome, f"Kafka refused it: {_error_name(error)}")
        return SENT


async def _start(publisher: Publisher) -> Publisher:
    try:
        await publisher.start()
    except BaseException:
        await publisher.close()
        raise
    return publisher


async def _import_publisher() -> ModuleType:
    """Import the module that imports Faust, in a thread: it takes a second, and others share this event loop."""
    return await asyncio.to_thread(importlib.import_module, "projections.kafka.publisher")


def _names(error: BaseException | None) -> set[str]:
    """The names of an error and of those that it came from."""
    found = set[str]()
    while error is not None:
        found.add(type(error).__name__)
        error = error.__cause__
    return found


def _error_name(error: BaseException) -> str:
    """The innermost error's name: texts of libraries may hold addresses with passwords, or records."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
