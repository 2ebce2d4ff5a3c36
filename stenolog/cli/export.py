"""`stenolog export`: a session's transcript from a running edge, as text or captions."""

import sys
from urllib.parse import quote

import click

from stenolog.cli.options import ExampleCommand, options
from stenolog.client.edge import get


@click.command(cls=ExampleCommand, epilog=(
    "stenolog export $SESSION --format srt > talk.srt\n"
    "STENOLOG_TOKEN=$TOKEN stenolog export $SESSION --url https://stt.example.com --format vtt"
))
@click.argument("session")
@click.option(
    "--format", "form", type=click.Choice(["txt", "json", "srt", "vtt"]), default="txt", show_default=True,
    help="Plain text, JSON, or captions as SubRip or WebVTT.",
)
@options("url", "token")
def export(*, session: str, form: str, url: str, token: str) -> None:
    """Print the transcript of SESSION, so far if it is open: as text, JSON or captions."""
    text = get(url, f"/v1/sessions/{quote(session, safe='')}/transcript.{form}", token=token).decode()
    # Without print: captions are counted in lines, and a final newline of ours would be one more.
    sys.stdout.write(text)
