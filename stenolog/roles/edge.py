"""The edge as a process."""

import asyncio
import logging
import socket

from edge.app import create_app
from edge.auth.access import Authenticator, NoAuthentication
from edge.server.server import EdgeServer, edge_server
from eventlog.redis.redis_log import RedisLog
from stenolog import wiring
from stenolog.roles.metrics_endpoint import exposed
from stenolog.settings import Settings

logger = logging.getLogger(__name__)


async def serve_edge(settings: Settings, stop: asyncio.Event, listener: socket.socket) -> None:
    """Accept on `listener` until stopped, then tell the clients and close."""
    async with wiring.connected(settings) as server, exposed(server.meter, settings, "edge"):
        log = RedisLog(
            server, session_ttl_s=settings.session_ttl_s, resume_token_ttl_s=settings.resume_token_ttl_s,
            durability=await wiring.durable(server, settings),
        )
        app = create_app(wiring.edge_settings(settings), server, log, authenticator(settings))
        host, port = listener.getsockname()[:2]
        serving = edge_server(app, host=host, port=port)
        logger.info("edge listens", extra={"host": host, "port": port})
        watch = asyncio.create_task(_passed_on(stop, serving))
        try:
            await serving.serve(sockets=[listener])
        finally:
            watch.cancel()


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


async def _passed_on(stop: asyncio.Event, serving: EdgeServer) -> None:
    await stop.wait()
    serving.should_exit = True
