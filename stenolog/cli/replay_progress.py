"""The display of `stenolog replay`: progress on standard error, results on standard output."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from eventlog.readmodel.statuses import format_duration
from stenolog.cli.output import local_time, print_json, printable
from stenolog.operations.replay.progress import Pace
from stenolog.operations.replay.replay import Outcome
from stenolog.operations.replay.sources import Replayable

MAX_REASONS = 20
"""Sessions named on standard error as they fail; of more only the number is shown, and --json has all."""


class ReplayProgress:
    """Shows one replay."""

    def __init__(self, run: str, *, as_json: bool, console: Console | None = None) -> None:
        """Show the run of that name; on `console`, standard error if none is given."""
        self.failed = 0
        self._run = run
        self._as_json = as_json
        self._console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._row = self._progress.add_task(run, total=None, words="looking for sessions")
        self._counts: dict[str, int] = {}
        self._done_s = 0.0
        self._started = time.monotonic()
        self._is_plan = False
        self._was_paused = False

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def note(self, words: str) -> None:
        """Print a line on standard error."""
        self._console.print(Text(printable(words), style="yellow"), soft_wrap=True)

    def outcome(self, outcome: Outcome) -> None:
        """Report that a session is over."""
        self._counts[outcome.status] = self._counts.get(outcome.status, 0) + 1
        if outcome.status == "done":
            self._done_s += outcome.audio_s
        if outcome.status == "failed":
            self.failed += 1
            if self.failed <= MAX_REASONS:
                self.note(f"{outcome.session_id}: {outcome.reason}")
        if self._as_json:
            line = {"session_id": outcome.session_id, "run": self._run, "status": outcome.status}
            reason = {"reason": outcome.reason} if outcome.reason else {}
            print_json({**line, **reason, "audio_seconds": round(outcome.audio_s, 3)})

    def plan(self, sessions: Sequence[tuple[Replayable, str]]) -> None:
        """List the sessions that would be replayed, each with the reason why not, if one exists."""
        self._is_plan = True
        for one, reason in sessions:
            self.failed += bool(reason)
            if self._as_json:
                status = "failed" if reason else "found"
                line = {"session_id": one.session_id, "status": status, "tenant_id": one.tenant_id,
                        "started_ms": one.started_ms, "audio_seconds": round(one.audio_s, 3),
                        "source": one.source or "log"}  # fmt: skip
                print_json({**line, **({"reason": reason} if reason else {})})
            else:
                started = local_time(one.started_ms)
                print(f"{one.session_id}  {started}  {one.audio_s:9.1f} s  {one.source or 'log'}  {reason}".rstrip())
        audio_s = sum(one.audio_s for one, reason in sessions if not reason)
        count = sum(not reason for _, reason in sessions)
        self.note(f"{count} sessions with {format_duration(audio_s)} of audio would be replayed")

    def pace(self, pace: Pace, *, is_paused: bool = False) -> None:
        """Show the progress, and whether clients' work goes first just now."""
        audio = f"{format_duration(pace.processed_s)} of {format_duration(pace.total_s)}"
        words = f"{pace.over} of {pace.sessions} sessions, {audio}"
        if rate := pace.times_real_time:
            words += f", {rate:,.0f} times real time"
        if pace.left_s is not None:
            words += f", {format_duration(pace.left_s)} left"
        if is_paused:
            words += ", paused: clients wait"
        if is_paused != self._was_paused and not self._console.is_terminal:
            self.note("paused: clients wait" if is_paused else "resumed")
        self._was_paused = is_paused
        self._progress.update(self._row, completed=pace.processed_s, total=pace.total_s or 1, words=words)

    def summary(self, *, is_interrupted: bool, next_command: str) -> None:
        """Report the result, and the command that continues it if it was interrupted."""
        if self._is_plan:
            return
        elapsed_s = time.monotonic() - self._started
        rate = self._done_s / elapsed_s if elapsed_s > 0 else 0.0
        statuses = ("done", "started", "skipped", "failed")
        if self._as_json:
            print_json({
                "run": self._run, "sessions": sum(self._counts.values()),
                **{status: self._counts.get(status, 0) for status in statuses},
                "audio_seconds": round(self._done_s, 3), "elapsed_seconds": round(elapsed_s, 3),
                "times_real_time": round(rate, 1), "interrupted": is_interrupted,
            })  # fmt: skip
        else:
            print(self._run, flush=True)
        counts = ", ".join(f"{self._counts[status]} {status}" for status in statuses if self._counts.get(status))
        self.note(f"{self._run}: {counts or 'nothing done'}; {format_duration(self._done_s)} of audio in "
                 f"{format_duration(elapsed_s)}, {rate:,.0f} times real time")
        if is_interrupted:
            self.note(f"interrupted; its progress is kept. Continue with\n  {next_command}")
