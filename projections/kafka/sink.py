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
from projections.forwarding.sink import SENT, Outcome, Outgoing, Verdict
from projections.integration_events import Kind, batch_kinds, transcript_kinds
from projections.kafka.access import Access, Reach

if TYPE_CHECKING:
    from projections.kafka.publisher import Publisher

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
"""Bound of connecting: what TLS and a look at the cluster take on a slow link, several times over."""

SEND_S = 20.0
"""Bound of one call; a broker that restarts is replaced by another in less."""

MOST_BYTES = 1_000_000
"""Of one record: just under what brokers take as they come (`message.max.bytes`, 1,048,588)."""

TOO_LARGE = frozenset({"MessageSizeTooLargeError", "RecordTooLargeError"})
"""aiokafka's errors for a record that will never fit, by name: importing them here would import all of it."""

_AFTER_ANOTHER = Verdict(Outcome.LATER, "an earlier event of the session wasn't taken")


OPEN = Access()
"""In the clear, as nobody."""


class KafkaMissingError(Exception):
    """Faust isn't installed."""


class Kafka:
    """Tells Kafka. See `projections.forwarding.sink` for what it promises.

    The events of one run are sent one after the other, each once the one before it was acked: so none overtakes
    another, whatever fails. Runs go side by side, and so share requests.
    """

    name = "kafka"
    most_events = 500
    most_calls = 4

    def __init__(
        self, url: str, *, access: Access = OPEN, most_bytes: int = MOST_BYTES, send_s: float = SEND_S,
    ) -> None:
        """Tell the brokers of `url`, by `access`.

        Args:
            url: The brokers as Faust takes them: ``kafka://host:9092``, several separated by semicolons.
            access: What they ask for.
            most_bytes: Bound of one record.
            send_s: Bound of one call.

        Raises:
            KafkaMissingError: if the extra `kafka` isn't installed.
            OSError: if a file of `access` can't be used.
        """
        # Once imported, Faust's module has no spec, and is no more looked for.
        if "faust" not in sys.modules and importlib.util.find_spec("faust") is None:
            raise KafkaMissingError("the projection `kafka` needs Faust: pip install 'stenolog[kafka]'")
        self._reach = Reach(url, access, access.context(), most_bytes)
        self._send_s = send_s
        self._idempotent = True
        self._publisher: Publisher | None = None
        self._connecting = asyncio.Lock()

    def kinds(self, opened: SessionOpened, fact: Fact) -> Sequence[Kind]:
        """Utterances and ends; at a recorded file's end one event for each topic."""
        return (*transcript_kinds(opened, fact), *batch_kinds(opened, fact))

    async def start(self) -> None:
        """Import Faust. The first events connect, and are told LATER as long as that fails."""
        await _imported()

    async def send(self, events: Sequence[Outgoing]) -> Sequence[Verdict]:
        """Tell Kafka of them; answers within `CONNECT_S`, the bound of sending and what closing takes."""
        try:
            publisher = await self._connected()
        except Exception as error:  # noqa: BLE001 - whatever it was, it may pass, and nothing was sent
            return [Verdict(Outcome.LATER, f"no connection to Kafka: {_named(error)}")] * len(events)
        call = _Call(publisher, events, asyncio.get_running_loop().time() + self._send_s)
        verdicts = await call.send()
        if any(verdict.outcome is Outcome.LATER for verdict in verdicts):
            # What is still under way in it would come after what is sent next: no answer before it is gone.
            await self._discard(publisher)
        return verdicts

    async def stop(self) -> None:
        """Let go of the brokers."""
        if self._publisher is not None:
            await self._discard(self._publisher)

    async def _connected(self) -> Publisher:
        async with asyncio.timeout(CONNECT_S), self._connecting:
            if self._publisher is None:
                self._publisher = await self._connect()
            return self._publisher

    async def _connect(self) -> Publisher:
        make = (await _imported()).Publisher
        try:
            return await _started(make(self._reach, idempotent=self._idempotent))
        except Exception as error:
            if not self._idempotent or "KafkaConnectionError" in _names(error):
                raise
            # Older brokers want a right for it, and some that only speak Kafka's protocol don't know it. It saves
            # duplicates; nothing of what is promised rests on it.
            publisher = await _started(make(self._reach, idempotent=False))
            logger.warning("the brokers refuse an idempotent producer, and get another", extra={"error": _named(error)})
            self._idempotent = False
            return publisher

    async def _discard(self, publisher: Publisher) -> None:
        if self._publisher is publisher:
            self._publisher = None
        await publisher.close()


class _Call:
    """One call of `send`."""

    def __init__(self, publisher: Publisher, events: Sequence[Outgoing], deadline: float) -> None:
        self._publisher, self._events, self._deadline = publisher, events, deadline
        self._verdicts = [_AFTER_ANOTHER] * len(events)

    async def send(self) -> Sequence[Verdict]:
        """What became of each event."""
        runs: dict[str, list[int]] = {}
        for number, outgoing in enumerate(self._events):
            runs.setdefault(outgoing.keys.member, []).append(number)
        async with asyncio.TaskGroup() as group:
            for numbers in runs.values():
                group.create_task(self._send_run(numbers))
        return self._verdicts

    async def _send_run(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._verdicts[number] = verdict = await self._send_one(self._events[number])
            if verdict.outcome is Outcome.LATER:
                return

    async def _send_one(self, outgoing: Outgoing) -> Verdict:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._publisher.publish(outgoing.event)
        except msgspec.ValidationError as error:
            return Verdict(Outcome.NEVER, f"not as the topic's type has it: {error}")
        except TimeoutError:
            return Verdict(Outcome.LATER, "Kafka didn't ack in time")
        except Exception as error:  # noqa: BLE001 - Faust and aiokafka wrap each other's; the name tells, and it may pass
            outcome = Outcome.NEVER if _names(error) & TOO_LARGE else Outcome.LATER
            return Verdict(outcome, f"Kafka refused it: {_named(error)}")
        return SENT


async def _started(publisher: Publisher) -> Publisher:
    try:
        await publisher.start()
    except BaseException:
        await publisher.close()
        raise
    return publisher


async def _imported() -> ModuleType:
    """The module that imports Faust, for a second or more: in a thread, since others live on this event loop."""
    return await asyncio.to_thread(importlib.import_module, "projections.kafka.publisher")


def _names(error: BaseException | None) -> set[str]:
    """The names of an error and of those that it came from."""
    found = set[str]()
    while error is not None:
        found.add(type(error).__name__)
        error = error.__cause__
    return found


def _named(error: BaseException) -> str:
    """The innermost error's name: texts of libraries may hold addresses with passwords, or what was sent."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__
