"""Offers a role's metrics on an address of their own, for a Prometheus that has no token."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from wsgiref.simple_server import WSGIServer

import prometheus_client

from eventlog.telemetry.metering import Meter, Reading
from stenolog import __version__
from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 2.0
"""For the listener's thread: it checks twice a second whether it is stopped."""


@contextlib.asynccontextmanager
async def exposed(meter: Meter, settings: Settings, role: str) -> AsyncIterator[None]:
    """Serve the metrics at ``/metrics`` of `metrics_host`:`metrics_port` until the end; not if the port is 0.

    Raises:
        UserError: if the port can't be used.
    """
    meter.add_reader(lambda: _about(role))
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = prometheus_client.start_http_server(
            settings.metrics_port, settings.metrics_host, registry=meter.registry
        )
    except OSError as error:
        raise UserError(
            f"port {settings.metrics_port} of {settings.metrics_host} can't be used for metrics ({error.strerror}); "
            "choose another with STENOLOG_METRICS_PORT", UNABLE,
        ) from error  # fmt: skip
    logger.info("metrics offered", extra={"host": settings.metrics_host, "port": server.server_port})
    try:
        yield
    finally:
        await asyncio.to_thread(_end, server, thread)


def _end(server: WSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join(STOP_TIMEOUT_S)


def _about(role: str) -> Iterator[Reading]:
    yield Reading("gauge", "stenolog_build_info", "1; which version runs.", label="version", values={__version__: 1})
    yield Reading("gauge", "stenolog_role_info", "1; what this process does.", label="role", values={role: 1})
