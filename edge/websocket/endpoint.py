"""The WebSocket endpoint: a raw ASGI application, since a wrapper around each frame is most of a frame's cost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from edge import errors
from edge.auth.access import Access, Scope
from edge.auth.bearer import chosen_subprotocol
from edge.errors import ApiError, error_message
from edge.server.fast_path import STATE_KEY, FastPath
from edge.session import parameters
from edge.session.opener import Opener
from edge.websocket.connection import Connection, Receive
from edge.websocket.host import ConnectionHost
from edge.websocket.outbox import Outbox, Send

logger = logging.getLogger(__name__)


class EndpointHost(ConnectionHost, Protocol):
    """The part of an edge that the endpoint uses."""

    access: Access
    opener: Opener
    connections: set[Connection]
    is_draining: bool


class StreamEndpoint:
    """``/v1/transcribe/stream``."""

    def __init__(self, host: EndpointHost) -> None:
        """Serve by `host`."""
        self._host = host

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection, from the handshake to its end."""
        await receive()  # websocket.connect
        handshake = HTTPConnection(scope)
        await send({"type": "websocket.accept", "subprotocol": chosen_subprotocol(handshake)})
        fast_path: FastPath = scope.get("state", {}).get(STATE_KEY) or FastPath()
        outbox = Outbox(send, fast_path.send_now, bound=self._host.settings.max_outbox_messages)
        writer = asyncio.create_task(_write(outbox), name="outbox")
        try:
            await self._serve(handshake, receive, outbox, fast_path)
        except ApiError as error:
            self._host.metrics.count_error(error.error)
            outbox.post(error_message(error.error, error.message))
            outbox.close(error.error.close, error.error.code)
        except Exception:
            logger.exception("connection failed by a defect")
            self._host.metrics.count_error(errors.INTERNAL_ERROR)
            outbox.post_last(error_message(errors.INTERNAL_ERROR, "a defect of the server"))
            outbox.close(errors.INTERNAL_ERROR.close, errors.INTERNAL_ERROR.code)
        else:
            writer.cancel()  # the socket is closed
        await asyncio.gather(writer, return_exceptions=True)

    async def _serve(self, handshake: HTTPConnection, receive: Receive, outbox: Outbox, fast_path: FastPath) -> None:
        host = self._host
        if host.is_draining:
            raise ApiError(errors.GOING_AWAY, "this replica shuts down")
        principal = await host.access.authorize(handshake, Scope.INGEST)
        session = await host.opener.open(parameters.parse(handshake.scope["query_string"]), principal)
        connection = Connection(host, session, receive, outbox, fast_path)
        host.connections.add(connection)
        try:
            await connection.run()
        finally:
            # No reference may lead back to it, or its memory would wait for the garbage collector's rare full run.
            fast_path.tap(None)
            connection.cursor.detach()
            connection.source.detach()
            host.connections.discard(connection)
            uplink = connection.uplink
            host.metrics.keep(connection.outbox.acks, uplink.resent_entries, uplink.lost_samples)


async def _write(outbox: Outbox) -> None:
    try:
        await outbox.run()
    except OSError:
        return  # the client is gone; the receiving side notices as well
