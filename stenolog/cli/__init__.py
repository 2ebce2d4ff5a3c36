"""The command line. Commands import what they need when they run, so that `stenolog --help` is instant."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from stenolog import __version__
from stenolog.cli.aws import aws

Command = TypeVar("Command", bound=Callable[..., Any])

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells have it."""


class _Examples(click.Command):
    """A command whose help ends with its docstring's examples as they are."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping them."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write("Examples:\n")
            for line in self.epilog.splitlines():
                formatter.write(f"  {line}\n")


def _options(*names: str) -> Callable[[Command], Command]:
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stenolog")
def cli() -> None:
    """Live and recorded speech to transcripts, through an event log on Redis Streams.

    `stenolog up` starts everything; docs/settings.md lists the settings that the environment may hold.
    """


@cli.command(cls=_Examples, epilog=(
    "stenolog up                        everything, with an embedded Valkey under ./data\n"
    "stenolog up --demo --once          show it on a recording, then stop\n"
    "REDIS_URL=redis://db:6379 stenolog up --workers 4"
))
@_options("host", "port", "data", "engine", "metrics")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--edges", type=click.IntRange(1, 64), default=1, show_default=True, help="Edge processes on one port.")
@click.option("--demo", is_flag=True, help="Stream the bundled recording and show its captions.")
@click.option("--once", is_flag=True, help="With --demo: stop after the recording.")
def up(*, workers: int, edges: int, demo: bool, once: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Start everything in one command: Redis (unless REDIS_URL is set), edge, workers, projections.

    Each role is a process of its own, started again if it dies. Ctrl-C ends all of them in order.
    """
    from stenolog.cli.up import run  # noqa: PLC0415 - see the module's docstring

    if once and not demo:
        raise click.UsageError("--once goes with --demo")
    run(overrides, workers=workers, edges=edges, demo=demo, once=once)


@cli.command(cls=_Examples, epilog="REDIS_URL=redis://db:6379 stenolog edge --port 8001")
@_options("host", "port", "data", "engine", "metrics", "follow")
@click.option("--descriptor", type=int, hidden=True, help="A listening socket that was inherited.")
def edge(*, descriptor: int | None, follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run one edge: WebSockets and HTTP in, captions out.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_edge  # noqa: PLC0415

    run_edge(overrides, descriptor=descriptor, follow_parent=follow_parent)


@cli.command(cls=_Examples, epilog="REDIS_URL=redis://db:6379 stenolog worker --engine whisper")
@_options("data", "engine", "metrics", "follow")
def worker(*, follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run one worker: it claims sessions, segments, recognises and commits.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_worker  # noqa: PLC0415

    run_worker(overrides, follow_parent=follow_parent)


@cli.command(hidden=True)
@click.argument("claim", nargs=6)
@_options("data", "engine")
def solo(*, claim: tuple[str, ...], **overrides: Any) -> None:  # noqa: ANN401
    """Process one session that kept killing workers, in this process alone; a worker starts it."""
    from stenolog.cli.roles import run_solo  # noqa: PLC0415

    run_solo(overrides, claim)


@cli.command(cls=_Examples, epilog="stenolog project\nREDIS_URL=redis://db:6379 stenolog project lists feeds")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_options("data", "metrics", "follow")
def project(*, names: tuple[str, ...], follow_parent: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Run projections, those of STENOLOG_PROJECTIONS unless named.

    lists, feeds, sessions and status are what clients read; eventbridge, kafka and webhooks tell others.

    Without REDIS_URL it joins the embedded server of a running `stenolog up` with the same --data.
    """
    from stenolog.cli.roles import run_project  # noqa: PLC0415

    run_project({**overrides, "projections": names or None}, follow_parent=follow_parent)


@cli.command(cls=_Examples, epilog=(
    "stenolog transcribe meeting.wav > meeting.txt\n"
    "stenolog transcribe talk.mp4 --language de\n"
    "arecord -f S16_LE -r 16000 -t wav | stenolog transcribe -\n"
    "stenolog transcribe call.wav --split-channels --json | jq .utterances"
))
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running edge.")
@click.option("--realtime", is_flag=True, help="No faster than it was spoken; WAV only.")
@click.option("--language", metavar="CODE", default="", help="Language spoken, such as en.")
@click.option("--split-channels", is_flag=True, help="Keep the two channels of a stereo file apart, a speaker each.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole session_end object instead of the text.")
@click.option("--token", envvar="STENOLOG_TOKEN", default="", help="Bearer token, where the edge asks for one.")
def transcribe(**options: Any) -> None:  # noqa: ANN401
    """Send a recording FILE (- is standard input) to a running edge and print its transcript.

    WAV, FLAC, MP3, Ogg, WebM and MP4 are taken, by their bytes, whatever the file is called. Captions and progress go
    to standard error, the transcript alone to standard output. An interrupted connection is resumed where it was.
    """
    from stenolog.cli.transcribe import run  # noqa: PLC0415

    run(**options)


@cli.command(cls=_Examples, epilog=(
    "stenolog batch meeting.mp4 > meeting.txt\n"
    "stenolog batch *.wav --json | jq -r .cleaned_transcript\n"
    "stenolog batch archive/*.mp3 --async        only send them, and print where the results will be"
))
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running edge.")
@click.option("--async", "wait", flag_value=False, default=True, help="Don't wait for the transcripts.")
@click.option("--raw", is_flag=True, help="Print what was said word by word, not the cleaned transcript.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.option("--language", metavar="CODE", default="", help="Language spoken, such as en.")
@click.option("--tenant", metavar="UUID", default="", help="X-Tenant-ID, without authentication.")
@click.option("--user", metavar="ID", default="", help="X-User-ID, without authentication.")
@click.option("--account", metavar="ID", default="", help="X-Account-ID, unless the token names one.")
@click.option("--token", envvar="STENOLOG_TOKEN", default="", help="Bearer token, where the edge asks for one.")
def batch(**options: Any) -> None:  # noqa: ANN401
    """Send recorded FILES to a running edge as recordings of `/batch/process`, and print their transcripts.

    Progress, speed and the time left go to standard error, the transcripts alone to standard output, in the order of
    the files; four are on their way at once. A file that can't be processed is told, and the others go on. What was
    sent whole is processed even if this is interrupted.
    """
    from stenolog.cli.batch import Options, run  # noqa: PLC0415

    run(Options(**options))


@cli.command(cls=_Examples, epilog=(
    "stenolog sessions\n"
    "stenolog sessions --state active --tenant acme\n"
    "stenolog sessions --json | jq '.[].session_id'"
))
@_options("data")
@click.option("--state", type=click.Choice(["created", "active", "closing", "closed"]), help="Only these.")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most sessions listed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def sessions(*, limit: int, as_json: bool, state: str | None, tenant: str | None, **overrides: Any) -> None:  # noqa: ANN401
    """List the sessions that Redis knows: state, tenant, age, audio, lag, finals."""
    from stenolog.cli.sessions import run  # noqa: PLC0415

    run(overrides, limit=limit, as_json=as_json, state=state, tenant=tenant)


@cli.command(cls=_Examples, epilog=(
    "stenolog export $SESSION --format srt > talk.srt\n"
    "STENOLOG_TOKEN=$TOKEN stenolog export $SESSION --url https://stt.example.com --format vtt"
))
@click.argument("session")
@click.option(
    "--format", "form", type=click.Choice(["txt", "json", "srt", "vtt"]), default="txt", show_default=True,
    help="Plain text, JSON, or captions as SubRip or WebVTT.",
)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running edge.")
@click.option("--token", envvar="STENOLOG_TOKEN", default="", help="Bearer token, where the edge asks for one.")
def export(**options: Any) -> None:  # noqa: ANN401
    """Print the transcript of SESSION, so far if it lives: as text, JSON or captions."""
    from stenolog.cli.export import run  # noqa: PLC0415

    run(**options)


@cli.command(cls=_Examples, epilog=(
    "stenolog doctor                    the deployment on this machine\n"
    "STENOLOG_TOKEN=$(stenolog token ...) stenolog doctor --url https://speech.example\n"
    "stenolog doctor --json | jq '.checks[] | select(.ok | not)'"
))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running edge.")
@click.option("--token", envvar="STENOLOG_TOKEN", default="", help="Bearer token, scopes ingest and read; better in "
              "the environment as STENOLOG_TOKEN, where no list of processes shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(**options: Any) -> None:  # noqa: ANN401
    """Check a running deployment from outside, a line per check: exit status 0 if all is well, 1 if not.

    It looks at every role and at Redis, transcribes a short recording as a session of its own, deletes it again, and
    asks for errors that the roles logged in the last 5 minutes.
    """
    from stenolog.cli.doctor import run  # noqa: PLC0415

    run(**options)


@cli.command(cls=_Examples, epilog=(
    "export STENOLOG_AUTH=hs256 STENOLOG_AUTH_SECRET=$(openssl rand -base64 32)\n"
    "stenolog token --tenant acme --subject ana --scope ingest --scope read\n"
    "stenolog token --tenant '*' --subject root --scope admin --ttl 300      an operator\n"
    'curl -H "Authorization: Bearer $(stenolog token --scope read)" localhost:8000/v1/sessions'
))
@click.option("--tenant", default="default", show_default=True, help="Tenant that the token is of.")
@click.option("--subject", default="developer", show_default=True, help="User that the token is of.")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(["ingest", "read", "admin"]), default=("ingest", "read"),
    show_default=True, help="What it allows; may be given several times.",
)
@click.option(
    "--ttl", "ttl_s", type=click.IntRange(1, 31_536_000), default=3600, show_default=True, metavar="SECONDS",
    help="How long it is good.",
)
def token(*, tenant: str, subject: str, scopes: tuple[str, ...], ttl_s: int) -> None:
    """Make a token for development, signed with STENOLOG_AUTH_SECRET.

    The token alone goes to standard output. In production an issuer of your own makes them.
    """
    from stenolog.cli.token import run  # noqa: PLC0415

    run(tenant=tenant, subject=subject, scopes=scopes, ttl_s=ttl_s)


cli.add_command(aws)


@cli.group("dead-letters")
def dead_letters() -> None:
    """What could not be applied or forwarded: list it, look at it, have it sent once more."""


@dead_letters.command("list", cls=_Examples, epilog=(
    "stenolog dead-letters list\n"
    "stenolog dead-letters list eventbridge --json | jq -r '.[].reason' | sort | uniq -c"
))
@click.argument("projection", required=False)
@_options("data")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Most letters listed.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_dead_letters(**options: Any) -> None:  # noqa: ANN401
    """List dead letters, of PROJECTION or of all: when, of which session and fact, and why; never what was said."""
    from stenolog.cli.dead_letters import run_list  # noqa: PLC0415

    run_list(**options)


@dead_letters.command("show", cls=_Examples, epilog=(
    "stenolog dead-letters show eventbridge:12:1700000000000-0\n"
    "stenolog dead-letters show eventbridge:12:1700000000000-0 --body | jq .data"
))
@click.argument("letter_id", metavar="ID")
@_options("data")
@click.option("--body", is_flag=True, help="Print the event itself as JSON, made anew from the facts: it holds speech.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show_dead_letter(**options: Any) -> None:  # noqa: ANN401
    """Show one dead letter, by the ID that `list` gives; exit status 1 if there is none."""
    from stenolog.cli.dead_letters import run_show  # noqa: PLC0415

    run_show(**options)


@dead_letters.command("redrive", cls=_Examples, epilog=(
    "stenolog dead-letters redrive eventbridge --all\n"
    "stenolog dead-letters redrive webhooks webhooks:12:1700000000000-0"
))
@click.argument("projection")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@_options("data")
@click.option("--all", "everything", is_flag=True, help="All that there are now.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def redrive_dead_letters(**options: Any) -> None:  # noqa: ANN401
    """Have the sink PROJECTION be told once more of dead letters, by whatever process forwards to it.

    One that fails again comes back to the dead letters. One whose facts are gone, expired or erased, is dropped.
    Exit status 1 if one of the IDs isn't there.
    """
    from stenolog.cli.dead_letters import run_redrive  # noqa: PLC0415

    run_redrive(**options)


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
