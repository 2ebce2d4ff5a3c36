"""`stenolog batch`: recordings processed by a running edge, with their progress."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from eventlog.readmodel.statuses import format_duration as duration_in_words
from stenolog.cli.captions import printable
from stenolog.cli.errors import FAILED, told
from stenolog.client.batch import Answer, BatchClient, Recording, Watcher
from stenolog.client.websocket import ClientError

AT_ONCE = 4
"""Recordings on their way together: while some are sent, others are processed; more would only wait in Redis."""

MEGABYTE = 1_000_000


class Options(NamedTuple):
    """What the command line says."""

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


def run(options: Options) -> None:
    """Process the files and print their transcripts in that order; without `wait` where they will be."""
    with told():
        found = uvloop.run(_all(options, _recordings(options)))
    for file, answer in zip(options.files, found, strict=True):
        if answer is not None:
            print(_printed(file, answer, options))
    if None in found:
        sys.exit(FAILED)


def _recordings(options: Options) -> list[Recording]:
    named = {"X-Tenant-ID": options.tenant, "X-User-ID": options.user, "X-Account-ID": options.account}
    headers = {name: value for name, value in named.items() if value}
    query = {"language": options.language} if options.language else {}
    files = [Path(file) for file in options.files]
    return [Recording(file, file.stat().st_size, headers, query) for file in files]


async def _all(options: Options, recordings: Sequence[Recording]) -> list[Answer | None]:
    """Each file's answer; None where it failed, which has been told."""
    places = asyncio.Semaphore(AT_ONCE)
    with Board() as board:
        async with BatchClient(options.url, token=options.token) as client, asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_one(client, recording, board, places, wait=options.wait))
                for recording in recordings
            ]
    return [task.result() for task in tasks]


async def _one(
    client: BatchClient, recording: Recording, board: "Board", places: asyncio.Semaphore, *, wait: bool
) -> Answer | None:
    async with places:
        row = board.row(recording)
        try:
            taken = await client.send(recording, row)
            return await client.result(taken, row) if wait else taken
        except (ClientError, OSError) as error:
            board.failed(recording, error)
            return None


def _printed(file: str, answer: Answer, options: Options) -> str:
    if options.as_json:
        return json.dumps({"file": file, **answer}, ensure_ascii=False)
    if "raw_transcript" not in answer:
        return f"{answer['interaction_id']}  {answer['result_url']}  {file}"
    text: str = answer["raw_transcript" if options.raw else "cleaned_transcript"]
    return f"==> {file} <==\n{text}\n" if len(options.files) > 1 else text


def in_words(status: Mapping[str, Any]) -> str:
    """A status message with speed and the time left, where they are known."""
    words = printable(str(status["message"]))
    if status["status"] == "processing" and status["duration_processed"] and status["processing_speed"]:
        words += f" {status['processing_speed']:.1f} times as fast as it was spoken"
        if status["estimated_completion"] is not None:
            at, done = (datetime.fromisoformat(status[name]) for name in ("timestamp", "estimated_completion"))
            words += f", {duration_in_words((done - at).total_seconds())} left"
        words += "."
    return words


class Board:
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

    def row(self, recording: Recording) -> Watcher:
        """One recording's line."""
        name, size = printable(recording.file.name), recording.size_bytes
        task = self._progress.add_task(name, total=size or None, words="")
        return Watcher(
            on_sent=lambda sent: self._progress.update(
                task, completed=sent, words=f"sent {sent / MEGABYTE:.1f} of {size / MEGABYTE:.1f} MB"
            ),
            on_taken=lambda taken: self._taken(task, name, taken),
            on_status=lambda status: self._status(task, name, status),
        )  # fmt: skip

    def failed(self, recording: Recording, error: Exception) -> None:
        """Say that a recording is not processed."""
        self._line(f"{printable(recording.file.name)}: {printable(str(error))}", "yellow")

    def _taken(self, task: TaskID, name: str, taken: Answer) -> None:
        self._line(f"{name}: taken as {taken['interaction_id']}", "dim")
        self._progress.reset(task, total=100, words="waits for a worker")

    def _status(self, task: TaskID, name: str, status: Mapping[str, Any]) -> None:
        words = in_words(status)
        self._progress.update(task, completed=status["progress"] or 0, words=words)
        if not self._console.is_terminal or status["status"] != "processing":
            self._line(f"{name}: {words}", "default")

    def _line(self, words: str, style: str) -> None:
        self._console.print(Text(words, style=style), soft_wrap=not self._console.is_terminal)
