"""The socket that edges accept on."""

import socket

from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings, is_loopback

BACKLOG = 1024
"""Connections that wait to be accepted: a thousand clients that reconnect at once wait here, and not in SYN retries."""


def listen(settings: Settings) -> socket.socket:
    """A listening socket on the settings' host and port.

    Raises:
        UserError: if the address isn't the loopback's while authentication is off, or is in use.
    """
    if settings.auth == "off" and not is_loopback(settings.host):
        raise UserError(
            f"--host {settings.host}: without authentication, others must not reach this server; it listens on the "
            "loopback address only (127.0.0.1). Set STENOLOG_AUTH=hs256 and STENOLOG_AUTH_SECRET, or "
            "STENOLOG_AUTH=jwks and STENOLOG_AUTH_JWKS, or put a proxy that authenticates in front of it.",
            UNABLE,
        )
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {settings.port} of {settings.host} can't be used ({error.strerror}); choose another with --port"
        ) from error
    return listener
