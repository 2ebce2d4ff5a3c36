"""The commands that run one role each."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.roles import runner
from stenolog.settings import Settings, is_loopback, load


def run_edge(overrides: Mapping[str, Any], *, descriptor: int | None, follow_parent: bool) -> None:
    """Run an edge on a port of its own, or on a listening socket that was inherited."""
    with told():
        settings = load(**overrides)
        from stenolog.roles.edge import serve_edge  # noqa: PLC0415 - each role imports its own part only

        listener = listen(settings) if descriptor is None else socket.socket(fileno=descriptor)

        async def serve(found: Settings, stop: asyncio.Event) -> None:
            await serve_edge(found, stop, listener)

        with listener:
            runner.run("edge", settings, serve, follow_parent=follow_parent)


def run_worker(overrides: Mapping[str, Any], *, replays: bool, follow_parent: bool) -> None:
    """Run a worker, for clients or for replays."""
    with told():
        settings = load(**overrides)
        from stenolog.roles.worker import serve_replayer, serve_worker  # noqa: PLC0415

        role, serve = ("replayer", serve_replayer) if replays else ("worker", serve_worker)
        runner.run(role, settings, serve, follow_parent=follow_parent)


def run_quarantine_trial(overrides: Mapping[str, Any], claim: Sequence[str]) -> None:
    """Try one suspected run; exit status 0 means that it was processed."""
    with told():
        settings = load(**overrides)
        from stenolog.roles import worker  # noqa: PLC0415

        runner.run("quarantine-trial", settings, lambda found, _: worker.run_quarantine_trial(found, claim))


def run_projector(overrides: Mapping[str, Any], *, follow_parent: bool) -> None:
    """Run projections."""
    with told():
        settings = load(**overrides)
        from stenolog.roles.projector import serve_projections  # noqa: PLC0415

        runner.run("projector", settings, serve_projections, follow_parent=follow_parent)


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
        # A thousand clients that reconnect at once after a restart wait here, and not in SYN retries.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UserError(
            f"port {settings.port} of {settings.host} can't be used ({error.strerror}); choose another with --port"
        ) from error
    return listener
