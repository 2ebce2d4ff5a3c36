"""How commands are declared: help that ends with examples, and the options that several share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

EDGE_URL = "http://127.0.0.1:8000"
"""Where `stenolog up` serves unless it is set otherwise."""


class ExampleCommand(click.Command):
    """A command whose epilog is its examples, printed without wrapping."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


class ExampleGroup(ExampleCommand, click.Group):
    """A group of commands, with examples."""


def _or_dotenv(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The value of an option; if neither it nor its variable is given, the variable's value in `.env`."""
    if context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT:
        return value
    from stenolog.settings.dotenv import read_dotenv  # noqa: PLC0415 - only where a command runs

    return read_dotenv().get(str(parameter.envvar)) or value


def _edge_url(default: str | None, text: str) -> Callable[[Decorated], Decorated]:
    return click.option(
        "--url", envvar="STENOLOG_URL", show_envvar=True, default=default, show_default=default is not None,
        callback=_or_dotenv, help=text,
    )  # fmt: skip


_OPTIONS = {
    "host": click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
    "port": click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one.  [default: 8000]"),
    "data": click.option(
        "--data", "data_dir", metavar="DIR", type=click.Path(file_okay=False),
        help="Directory of the embedded server, used without REDIS_URL.  [default: ./data]",
    ),
    "engine": click.option("--engine", metavar="whisper|mock|openai", help="Recogniser.  [default: whisper]"),
    "metrics": click.option(
        "--metrics-port", type=click.IntRange(0, 65_535), help="Port of the Prometheus metrics.  [default: 0, none]",
    ),
    "follow": click.option("--follow-parent", is_flag=True, hidden=True, help="End when standard input closes."),
    "url": _edge_url(EDGE_URL, "A running edge."),
    "url-or-redis": _edge_url(None, "A running edge, instead of Redis."),
    "token": click.option(
        "--token", envvar="STENOLOG_TOKEN", show_envvar=True, default="", callback=_or_dotenv,
        help="Bearer token, where the edge asks for one. A list of processes shows options, and not the environment.",
    ),
    "tenant": click.option("--tenant", metavar="TENANT", help="Only this tenant's sessions."),
    "since": click.option(
        "--since", metavar="WHEN", help="Only those started then or later: an age (2h, 3d) or ISO 8601."
    ),
    "until": click.option("--until", metavar="WHEN", help="Only those started before."),
    "json": click.option("--json", "as_json", is_flag=True, help="Print JSON."),
}


def options(*names: str) -> Callable[[Decorated], Decorated]:
    """Add the shared options of those names; without a value, settings come from the environment or `.env`."""

    def decorate(command: Decorated) -> Decorated:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate
