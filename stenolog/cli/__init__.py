"""The command line: which commands exist. A command's module is imported when it runs, so that help is instant."""

import importlib
import sys
from typing import Any

import click

from stenolog import __version__

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""

COMMANDS = {
    "Run": {
        "up": "Start everything in one command.",
        "edge": "Run one edge: WebSockets and HTTP in, captions out.",
        "worker": "Run one worker: segments and recognises speech.",
        "projector": "Run projections and forwarders.",
    },
    "Use": {
        "transcribe": "Transcribe a recording, live.",
        "batch": "Transcribe recorded files.",
        "sessions": "List sessions.",
        "export": "Print a transcript as text, JSON or captions.",
    },
    "Replay": {
        "replay": "Process old audio again, as a new run.",
        "diff": "Compare two runs word by word.",
        "promote": "Choose the run that readers receive.",
        "rebuild": "Rebuild read models from the facts.",
    },
    "Operate": {
        "doctor": "Check a running deployment.",
        "nodes": "Show the load of each Redis node.",
        "dead-letters": "List and redrive events that were given up.",
        "quarantine": "List, redrive and fail quarantined runs.",
        "archive": "List, verify and erase archived sessions.",
        "backup": "Write the content of Redis to a directory.",
        "restore": "Write a backup into an empty Redis.",
    },
    "Set up": {
        "token": "Make a token for development.",
        "aws": "Make and test the receivers of EventBridge events.",
    },
}
"""Section of the help to its commands, each with its short help."""

_MODULES = {"restore": "backup", "quarantine-trial": "worker"}
"""Modules that hold more than the command of their own name; workers alone start the hidden `quarantine-trial`."""


class CommandLine(click.Group):
    """The commands by section; reports errors that a user can act on in a line, instead of a traceback."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command."""
        if name not in {*self.list_commands(context), *_MODULES}:
            return None
        own = name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"stenolog.cli.{_MODULES.get(name, own)}"), own)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a table for each section."""
        width = max(len(name) for commands in COMMANDS.values() for name in commands)
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Run the command.

        Raises:
            click.ClickException: in place of an error that a user can act on.
        """
        try:
            return super().invoke(context)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            from stenolog.cli.errors import user_error  # noqa: PLC0415 - only a failure needs it

            found = user_error(error)
            if found is None:
                raise
            reported = click.ClickException(found.message)
            setattr(reported, "exit_code", found.exit_code)  # noqa: B010 - click declares it on the class
            raise reported from error


@click.group(
    cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from the environment or `.env`: docs/settings.md.",
)  # fmt: skip
@click.version_option(__version__, prog_name="stenolog")
def cli() -> None:
    """Live and recorded speech to transcripts, through an event log on Redis Streams."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has enough; without this, closing standard output at exit would complain again.
        sys.stdout = None
        sys.exit(1)
