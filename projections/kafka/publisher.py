"""A Faust app that only writes, in our own event loop. Imported late: Faust takes a second and 25 MiB."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, cast

import faust
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types.settings import Settings

from projections.integration_events import Event
from projections.kafka.access import Endpoint
from projections.kafka.records import TOPICS, make_headers, make_record, timestamp_s
from projections.kafka.topics import typed_topic

REQUEST_S = 5.0
"""Bound of one request to a broker, which is then asked again: what a healthy one takes even when replicas lag."""

FLUSH_S = 1.0
"""Closing waits so long for records under way; nothing uses their acks any more."""

CLOSE_S = 1.0
"""Then a request under way is given up. With `FLUSH_S` less than a role has for its end."""

_logger = logging.getLogger("faust")  # else services log by the name of their class's module
_LOGGERS = ("aiokafka", "faust", "mode")


class _Producer(driver.Producer):
    """Waits for all replicas; idempotent unless set otherwise; and can be closed at any time.

    aiokafka's own closing waits until everything was acked, which without brokers is never.
    """

    logger = _logger

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": cast("_App", self.app).idempotent}

    async def flush(self) -> None:
        """Wait for records under way, within a bound."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await super().flush()

    async def on_stop(self) -> None:
        """Stop sending; the app has flushed before."""
        producer: Any = self._producer  # aiokafka has no types
        self._producer = None
        if producer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):  # past it records under way are cancelled
                    await producer._sender.close()  # noqa: SLF001 - the public way is the one that waits for the brokers
            await producer.client.close()
            producer._closed = True  # noqa: SLF001 - else it complains when it is collected


class _Transport(driver.Transport):
    Producer = _Producer


class _Settings(Settings):
    """Ignores the environment: Faust's variables, such as BROKER_URL, are other programs' too, and would win."""

    def getenv(self, env_name: str) -> None:
        """Report every variable as unset."""


class _App(faust.App):
    """Keeps nothing on disk."""

    Settings = _Settings
    logger = _logger
    idempotent = True
    """Whether a record that the producer repeats by itself is stored once."""

    async def on_first_start(self) -> None:
        """Make no directories for tables; this app has none."""


def make_credentials(endpoint: Endpoint) -> SSLCredentials | SASLCredentials | None:
    """The credentials that brokers get."""
    access, context = endpoint.access, endpoint.context
    if access.user:
        return SASLCredentials(
            username=access.user, password=access.password, ssl_context=context, mechanism=access.mechanism
        )
    return SSLCredentials(context) if context is not None else None


class Publisher:
    """One connection to the brokers; once anything failed, it is closed and another is made."""

    def __init__(self, endpoint: Endpoint, *, idempotent: bool) -> None:
        for name in _LOGGERS:
            # They log at every try what the sink logs once, and below WARNING the text of every record.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._app = _App(
            "stenolog", broker=endpoint.url, broker_client_id="stenolog", broker_credentials=make_credentials(endpoint),
            producer_request_timeout=REQUEST_S, producer_max_request_size=endpoint.most_bytes,
            # Topics are made by the operator of the brokers, or by the brokers themselves.
            web_enabled=False, topic_allow_declare=False, topic_disable_leader=True,
        )  # fmt: skip
        self._app.idempotent = idempotent
        self._app.producer_only = True  # `start_client` has no argument for it
        self._app.transport = _Transport(self._app.conf.broker, self._app)
        self._topics = {name: typed_topic(self._app, name) for name in set(TOPICS.values())}

    async def start(self) -> None:
        """Connect; raises what Faust or aiokafka raise if that fails."""
        await self._app.start_client()

    async def publish(self, event: Event) -> None:
        """Return once all replicas in sync have it; raises what Faust or aiokafka raise if that fails."""
        topic = self._topics[TOPICS[event.kind]]
        message = topic.as_future_message(
            key=event.session_id, value=make_record(event), headers=make_headers(event), timestamp=timestamp_s(event),
        )
        await topic.publish_message(message, wait=True)

    async def close(self) -> None:
        """Close the connection, within a bound."""
        await self._app.stop()
