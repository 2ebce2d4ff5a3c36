"""`stenolog edge`."""

import asyncio
import socket
from typing import Any

import click

from stenolog.cli.options import ExampleCommand, options
from stenolog.roles import runner
from stenolog.roles.edge import serve_edge
from stenolog.roles.listener import listen
from stenolog.settings import Settings, load


@click.command(cls=ExampleCommand, epilog="REDIS_URL=redis://db:6379 stenolog edge --port 8001")
@options("host", "port", "data", "engine", "metrics", "follow")
@click.option("--descriptor", type=int, hidden=True, help="A listening socket that was inherited.")
def edge(*, descriptor: int | None, follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Run one edge: WebSockets and HTTP in, captions out.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    settings = load(**overrides)
    listener = listen(settings) if descriptor is None else socket.socket(fileno=descriptor)

    async def serve(found: Settings, stop: asyncio.Event) -> None:
        await serve_edge(found, stop, listener)

    with listener:
        runner.run("edge", settings, serve, follow_parent=follow_parent)
