"""The command line. Commands import what they need when they run, so that `stenolog --help` is instant."""

import sys

import click

from stenolog import __version__
from stenolog.cli.aws import aws
from stenolog.cli.commands.archive import archive
from stenolog.cli.commands.backup import backup, restore
from stenolog.cli.commands.clients import batch, doctor, export, sessions, token, transcribe
from stenolog.cli.commands.letters import dead_letters
from stenolog.cli.commands.nodes import nodes
from stenolog.cli.commands.quarantine import quarantine
from stenolog.cli.commands.rebuild import rebuild
from stenolog.cli.commands.replay import replay
from stenolog.cli.commands.runs import diff, promote
from stenolog.cli.commands.serving import edge, projector, quarantine_trial, up, worker

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stenolog")
def cli() -> None:
    """Live and recorded speech to transcripts, through an event log on Redis Streams.

    `stenolog up` starts everything; docs/settings.md lists the settings that the environment may hold.
    """


for _command in (
    up, edge, worker, quarantine_trial, projector, transcribe, batch, sessions, export, doctor, token, aws,
    dead_letters, quarantine, rebuild, replay, diff, promote, archive, backup, restore, nodes,
):
    cli.add_command(_command)


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
        # Whoever read our output has enough; without this, closing standard output at exit would complain again.
        sys.stdout = None
        sys.exit(1)
