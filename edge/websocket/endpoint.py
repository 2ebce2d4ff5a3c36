"""The WebSocket endpoint: a raw ASGI application, since a wrapper per frame is what a frame costs most."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import HTTPConnection

from edge import errors
from edge.auth.access import Scope
from edge.auth.bearer import chosen_subprotocol
from edge.core import EdgeCore
from edge.errors import ApiError, error_message
from edge.server.fast_path import FastPath, NoFastPath
from edge.session import parameters
from edge.websocket.connection import Connection, Receive
from edge.websocket.outbox import Outbox, Send

logger = logging.getLogger(__name__)


class StreamEndpoint:
    """``/v1/transcribe/stream``."""

    def __init__(self, core: EdgeCore) -> None:
        """Serve by `core`."""
        self._core = core

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One connection, from the handshake to its end."""
        await receive()  # websocket.connect
        handshake = HTTPConnection(scope)
        await send({"type": "websocket.accept", "subprotocol": chosen_subprotocol(handshake)})
        shortcut: FastPath = scope.get("state", {}).get("shortcut") or NoFastPath()
        outbox = Outbox(send, shortcut.send_now, bound=self._core.settings.max_outbox_messages)
        writer = asyncio.create_task(_write(outbox))
        try:
            await self._serve(handshake, receive, outbox, shortcut)
        except ApiError as error:
            self._core.metrics.trouble(error.error)
            outbox.post(error_message(error.error, error.message))
            outbox.close(error.error.close, error.error.code)
        except Exception:
            logger.exception("a connection failed by a defect")
            self._core.metrics.trouble(errors.INTERNAL_ERROR)
            outbox.post_last(error_message(errors.INTERNAL_ERROR, "a defect of the server"))
            outbox.close(errors.INTERNAL_ERROR.close, errors.INTERNAL_ERROR.code)
        else:
            writer.cancel()  # the socket is closed
        await asyncio.gather(writer, return_exceptions=True)

    async def _serve(self, handshake: HTTPConnection, receive: Receive, outbox: Outbox, shortcut: FastPath) -> None:
        core = self._core
        if core.draining:
            raise ApiError(errors.GOING_AWAY, "this replica shuts down")
        principal = await core.access.authorize(handshake, Scope.INGEST)
        session = await core.opener.open(parameters.parse(handshake.scope["query_string"]), principal)
        connection = Connection(core, session, receive, outbox, shortcut)
        core.connections.add(connection)
        try:
            await connection.run()
        finally:
            # Nothing may lead back to it, or only the collector's rare look at everything would free what it holds.
            shortcut.tap(None)
            connection.listener.detach()
            connection.feeder.let_go()
            core.connections.discard(connection)
            core.metrics.left(connection)


async def _write(outbox: Outbox) -> None:
    try:
        await outbox.run()
    except OSError:
        return  # the client is gone; the receiving side hears of it too
