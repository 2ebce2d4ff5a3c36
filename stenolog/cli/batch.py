"""`stenolog batch`: recordings processed by a running edge, with their progress."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from eventlog.readmodel.statuses import format_duration as duration_in_words
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import printable
from stenolog.client.batch import Answer, BatchClient, Callbacks, Recording
from stenolog.client.edge import ClientError
from stenolog.errors import FAILED

MAX_CONCURRENT = 4
"""Recordings in progress together: while some are sent, others are processed; more would only wait in Redis."""

MEGABYTE = 1_000_000


class Options(NamedTuple):
    """The command line."""

    files: Sequence[str]
    url: str
    token: str
    wait: bool
    as_json: bool
    raw: bool
    language: str
    tenant: str
    user: str
    account: str


@click.command(cls=ExampleCommand, epilog=(
    "stenolog batch meeting.mp4 > meeting.txt\n"
    "stenolog batch *.wav --json | jq -r .cleaned_transcript\n"
    "stenolog batch archive/*.mp3 --async        only send them, and print where the results will be"
))
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@options("url")
@click.option("--async", "wait", flag_value=False, default=True, help="Don't wait for the transcripts.")
@click.option("--raw", is_flag=True, help="Print the raw transcript, word by word, not the cleaned one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file.")
@click.option("--language", metavar="CODE", default="", help="Language spoken, such as en.")
@click.option("--tenant", metavar="UUID", default="", help="X-Tenant-ID, without authentication.")
@click.option("--user", metavar="ID", default="", help="X-User-ID, without authentication.")
@click.option("--account", metavar="ID", default="", help="X-Account-ID, unless the token names one.")
@options("token")
def batch(**given: Any) -> None:  # noqa: ANN401 - options have many types
    """Send recorded FILES to a running edge as recordings of `/batch/process`, and print their transcripts.

    Progress, speed and the time left go to standard error, the transcripts alone to standard output, in the order of
    the files; four are processed at once. A file that can't be processed is reported, and the others continue. Whole
    uploads are processed even if this command is interrupted.
    """
    chosen = Options(**given)
    found = uvloop.run(_process_all(chosen, _recordings(chosen)))
    for file, answer in zip(chosen.files, found, strict=True):
        if answer is not None:
            print(_printed(file, answer, chosen))
    if None in found:
        sys.exit(FAILED)


def _recordings(options: Options) -> list[Recording]:
    named = {"X-Tenant-ID": options.tenant, "X-User-ID": options.user, "X-Account-ID": options.account}
    headers = {name: value for name, value in named.items() if value}
    query = {"language": options.language} if options.language else {}
    files = [Path(file) for file in options.files]
    return [Recording(file, file.stat().st_size, headers, query) for file in files]


async def _process_all(options: Options, recordings: Sequence[Recording]) -> list[Answer | None]:
    """Each file's answer; None where it failed, which was reported."""
    limit = asyncio.Semaphore(MAX_CONCURRENT)
    with ProgressDisplay() as display:
        async with BatchClient(options.url, token=options.token) as client, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_process(client, recording, display, limit, wait=options.wait))
                for recording in recordings
            ]
    return [task.result() for task in tasks]


async def _process(
    client: BatchClient, recording: Recording, display: "ProgressDisplay", limit: asyncio.Semaphore, *, wait: bool
) -> Answer | None:
    async with limit:
        row = display.row(recording)
        try:
            accepted = await client.send(recording, row)
            return await client.result(accepted, row) if wait else accepted
        except (ClientError, OSError) as error:
            display.failed(recording, error)
            return None


def _printed(file: str, answer: Answer, options: Options) -> str:
    if options.as_json:
        return json.dumps({"file": file, **answer}, ensure_ascii=False)
    if "raw_transcript" not in answer:
        return f"{answer['interaction_id']}  {answer['result_url']}  {file}"
    text: str = answer["raw_transcript" if options.raw else "cleaned_transcript"]
    return f"==> {file} <==\n{text}\n" if len(options.files) > 1 else text


def describe(status: Mapping[str, Any]) -> str:
    """A status message with speed and the time left, where they are known."""
    words = printable(str(status["message"]))
    if status["status"] == "processing" and status["duration_processed"] and status["processing_speed"]:
        words += f" {status['processing_speed']:.1f} times as fast as it was spoken"
        if status["estimated_completion"] is not None:
            at, done = (datetime.fromisoformat(status[name]) for name in ("timestamp", "estimated_completion"))
            words += f", {duration_in_words((done - at).total_seconds())} left"
        words += "."
    return words


class ProgressDisplay:
    """Shows on standard error how far each recording is: bars on a terminal, a line per message elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        """Show on `console`."""
        self._console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn(),
            console=self._console, transient=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def row(self, recording: Recording) -> Callbacks:
        """Add a recording's line."""
        name, size = printable(recording.file.name), recording.size_bytes
        task = self._progress.add_task(name, total=size or None, words="")
        return Callbacks(
            on_sent=lambda sent: self._progress.update(
                task, completed=sent, words=f"sent {sent / MEGABYTE:.1f} of {size / MEGABYTE:.1f} MB"
            ),
            on_accepted=lambda accepted: self._accepted(task, name, accepted),
            on_status=lambda status: self._status(task, name, status),
        )  # fmt: skip

    def failed(self, recording: Recording, error: Exception) -> None:
        """Show that a recording is not processed."""
        self._line(f"{printable(recording.file.name)}: {printable(str(error))}", "yellow")

    def _accepted(self, task: TaskID, name: str, accepted: Answer) -> None:
        self._line(f"{name}: taken as {accepted['interaction_id']}", "dim")
        self._progress.reset(task, total=100, words="waits for a worker")

    def _status(self, task: TaskID, name: str, status: Mapping[str, Any]) -> None:
        words = describe(status)
        self._progress.update(task, completed=status["progress"] or 0, words=words)
        if not self._console.is_terminal or status["status"] != "processing":
            self._line(f"{name}: {words}", "default")

    def _line(self, words: str, style: str) -> None:
        self._console.print(Text(words, style=style), soft_wrap=not self._console.is_terminal)
