"""`stenolog projector`."""

from typing import Any

import click

from stenolog.cli.options import ExampleCommand, options
from stenolog.roles import runner
from stenolog.roles.projector import serve_projections
from stenolog.settings import load


@click.command(
    cls=ExampleCommand, epilog="stenolog projector\nREDIS_URL=redis://db:6379 stenolog projector lists feeds"
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options("data", "metrics", "follow")
def projector(*, names: tuple[str, ...], follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Run projections and forwarders, those of STENOLOG_PROJECTIONS unless named.

    lists, feeds, sessions and status make the read models of clients; eventbridge, kafka and webhooks forward events;
    archive keeps sessions outside Redis.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    settings = load(**overrides, projections=names or None)
    runner.run("projector", settings, serve_projections, follow_parent=follow_parent)
