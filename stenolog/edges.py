"""The edge as a process."""

import asyncio
import logging
import socket

from edge.app import create_app
from edge.serving import EdgeServer, edge_server
from eventlog.redis_log import RedisLog
from stenolog import wiring
from stenolog.settings import Settings

logger = logging.getLogger(__name__)


async def serve_edge(settings: Settings, stop: asyncio.Event, listener: socket.socket) -> None:
    """Accept on `listener` until stopped, then tell the clients and close."""
    async with wiring.connected(settings) as server:
        log = RedisLog(server, session_ttl_s=settings.session_ttl_s)
        app = create_app(wiring.edge_settings(settings), server, log)
        host, port = listener.getsockname()[:2]
        serving = edge_server(app, host=host, port=port)
        logger.info("edge listens", extra={"host": host, "port": port})
        watch = asyncio.create_task(_passed_on(stop, serving))
        try:
            await serving.serve(sockets=[listener])
        finally:
            watch.cancel()


async def _passed_on(stop: asyncio.Event, serving: EdgeServer) -> None:
    await stop.wait()
    serving.should_exit = True
