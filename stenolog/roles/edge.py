"""The edge as a process."""

import asyncio
import logging
import socket

from edge.app import create_app
from edge.auth.access import Authenticator, NoAuthentication
from edge.core import EdgeCore
from edge.server.server import EdgeServer, edge_server
from eventlog.redis.redis_log import RedisLog
from stenolog import wiring
from stenolog.roles.metrics_endpoint import exposed
from stenolog.settings import Settings

logger = logging.getLogger(__name__)


async def serve_edge(settings: Settings, stop: asyncio.Event, listener: socket.socket) -> None:
    """Accept on `listener` until stopped, then drain the clients and close.

    Raises:
        Exception: the defect that ended a part of the edge; the clients were drained before.
    """
    async with wiring.connected(settings) as server, exposed(server.meter, settings, "edge"):
        log = RedisLog(
            server, session_ttl_s=settings.session_ttl_s, resume_token_ttl_s=settings.resume_token_ttl_s,
            durability=await wiring.durable(server, settings),
        )
        app = create_app(wiring.edge_settings(settings), server, log, authenticator(settings))
        host, port = listener.getsockname()[:2]
        serving = edge_server(app, host=host, port=port)
        logger.info("edge listening", extra={"host": host, "port": port})
        await _serve_until(stop, app.state.core, serving, listener)


def authenticator(settings: Settings) -> Authenticator:
    """The authenticator that the settings choose."""
    if settings.auth == "off":
        return NoAuthentication()
    # Imported here: without authentication nothing needs the cryptography, which takes a while to load.
    from edge.auth.authentication import SharedSecret, TokenAuthenticator  # noqa: PLC0415
    from edge.auth.jwks import IssuerKeys  # noqa: PLC0415

    keys = SharedSecret(settings.auth_secret) if settings.auth == "hs256" else IssuerKeys(settings.auth_jwks)
    return TokenAuthenticator(
        keys, issuer=settings.auth_issuer, audience=settings.auth_audience, leeway_s=settings.auth_leeway_s
    )


async def _serve_until(stop: asyncio.Event, core: EdgeCore, serving: EdgeServer, listener: socket.socket) -> None:
    """Serve until `stop`, or until the edge ends by a defect; drain and close; raise that defect."""
    stopped = asyncio.create_task(stop.wait(), name="stop")
    ended = asyncio.create_task(core.wait(), name="edge")
    served = asyncio.create_task(serving.serve(sockets=[listener]), name="server")
    try:
        await asyncio.wait({stopped, ended, served}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and not served.done():
            logger.error("edge ended by a defect; draining its clients", exc_info=ended.exception())
        serving.should_exit = True
        await served
        if ended.done():
            await ended
    finally:
        for task in (stopped, ended, served):
            task.cancel()
        await asyncio.gather(stopped, ended, served, return_exceptions=True)
