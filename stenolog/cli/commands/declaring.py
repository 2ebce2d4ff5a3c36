"""What commands are declared with: help that ends with examples, and the options that many have."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Examples(click.Command):
    """A command whose help ends with its docstring's examples as they are."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping them."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


def options(*names: str) -> Callable[[Command], Command]:
    """The common options of those names; what isn't given comes from the environment or `.env`."""
    known = {
        "host": click.option("--host", help="Address to listen on.  [default: 127.0.0.1]"),
        "port": click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one.  [default: 8000]"),
        "data": click.option(
            "--data", "data_dir", metavar="DIR", type=click.Path(file_okay=False),
            help="Directory of the embedded server.  [default: ./data]",
        ),
        "engine": click.option("--engine", metavar="whisper|mock|openai", help="Recogniser.  [default: whisper]"),
        "metrics": click.option(
            "--metrics-port", type=click.IntRange(0, 65_535), help="Offer Prometheus metrics there.  [default: 0, no]",
        ),
        "follow": click.option("--follow-parent", is_flag=True, hidden=True, help="End when standard input closes."),
    }

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = known[name](command)
        return command

    return decorate
