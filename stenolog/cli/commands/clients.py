"""Commands about sessions: sending, listing, fetching, checking."""

from typing import Any

import click

from stenolog.cli.commands.declaring import Examples, options


@click.command(cls=Examples, epilog=(
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
def transcribe(**given: Any) -> None:  # noqa: ANN401
    """Send a recording FILE (- is standard input) to a running edge and print its transcript.

    WAV, FLAC, MP3, Ogg, WebM and MP4 are taken, by their bytes, whatever the file is called. Captions and progress go
    to standard error, the transcript alone to standard output. An interrupted connection is resumed where it was.
    """
    from stenolog.cli.transcribe import run  # noqa: PLC0415

    run(**given)


@click.command(cls=Examples, epilog=(
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
def batch(**given: Any) -> None:  # noqa: ANN401
    """Send recorded FILES to a running edge as recordings of `/batch/process`, and print their transcripts.

    Progress, speed and the time left go to standard error, the transcripts alone to standard output, in the order of
    the files; four are on their way at once. A file that can't be processed is told, and the others go on. What was
    sent whole is processed even if this is interrupted.
    """
    from stenolog.cli.batch import Options, run  # noqa: PLC0415

    run(Options(**given))


@click.command(cls=Examples, epilog=(
    "stenolog sessions\n"
    "stenolog sessions --state active --tenant acme\n"
    "stenolog sessions --json | jq '.[].session_id'\n"
    "stenolog sessions --runs                 with the replays of each, and which run readers get"
))
@options("data")
@click.option("--state", type=click.Choice(["created", "active", "closing", "closed"]), help="Only these.")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most sessions listed.")
@click.option("--runs", is_flag=True, help="Each session's runs too.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def sessions(
    *, limit: int, as_json: bool, state: str | None, tenant: str | None, runs: bool, **overrides: Any  # noqa: ANN401
) -> None:
    """List the sessions that Redis knows: state, tenant, age, audio, lag, finals."""
    from stenolog.cli.sessions import run  # noqa: PLC0415

    run(overrides, limit=limit, as_json=as_json, state=state, tenant=tenant, runs=runs)


@click.command(cls=Examples, epilog=(
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
def export(**given: Any) -> None:  # noqa: ANN401
    """Print the transcript of SESSION, so far if it lives: as text, JSON or captions."""
    from stenolog.cli.export import run  # noqa: PLC0415

    run(**given)


@click.command(cls=Examples, epilog=(
    "stenolog doctor                    the deployment on this machine\n"
    "STENOLOG_TOKEN=$(stenolog token ...) stenolog doctor --url https://speech.example\n"
    "stenolog doctor --json | jq '.checks[] | select(.ok | not)'"
))
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="A running edge.")
@click.option("--token", envvar="STENOLOG_TOKEN", default="", help="Bearer token, scopes ingest and read; better in "
              "the environment as STENOLOG_TOKEN, where no list of processes shows it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(**given: Any) -> None:  # noqa: ANN401
    """Check a running deployment from outside, a line per check: exit status 0 if all is well, 1 if not.

    It looks at every role and at Redis, transcribes a short recording as a session of its own, deletes it again, and
    asks for errors that the roles logged in the last 5 minutes.
    """
    from stenolog.cli.doctor import run  # noqa: PLC0415

    run(**given)


@click.command(cls=Examples, epilog=(
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
