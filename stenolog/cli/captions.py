"""Captions and progress on standard error: live on a terminal, a line per final elsewhere."""

from collections.abc import Callable
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from stenolog.cli.output import clock, printable

Message = dict[str, Any]

REFRESH_PER_S = 8
"""Quick enough to read along, slow enough for a terminal over a thin line."""


class Captions:
    """Shows a session's messages as they come; a context manager around the live display."""

    def __init__(self, *, sample_rate_hz: int, duration_s: float | None, console: Console | None = None) -> None:
        """Show progress up to `duration_s`, None if unknown; on standard error unless `console` is given."""
        self._console = console or Console(stderr=True, highlight=False)
        self._rate_hz = sample_rate_hz
        self._partials: dict[int, Text] = {}
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[position]}"), TimeElapsedColumn(),
            console=self._console,
        )
        self._task: TaskID = self._progress.add_task("sent", total=duration_s, position="")
        self._duration_s = duration_s
        self._live = Live(
            console=self._console, refresh_per_second=REFRESH_PER_S, transient=True, get_renderable=self._rendered
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def show(self, message: Message) -> None:
        """Show one message of the server."""
        shows: dict[str, Callable[[Message], None]] = {
            "ack": self._show_ack, "partial": self._show_partial, "final": self._show_final, "error": self._show_error,
        }
        if message["type"] in shows:
            shows[message["type"]](message)

    def _show_ack(self, message: Message) -> None:
        acked_s = message["offset"] / self._rate_hz
        total = "" if self._duration_s is None else f" of {clock(self._duration_s)}"
        self._progress.update(self._task, completed=acked_s, position=clock(acked_s) + total)

    def _show_partial(self, message: Message) -> None:
        text, stable = message["text"], message.get("stable", 0)
        shown = Text(f"         {printable(text[:stable])}", style="default")
        self._partials[message.get("channel", 0)] = shown.append(printable(text[stable:]), style="dim")

    def _show_final(self, message: Message) -> None:
        self._partials.pop(message.get("channel", 0), None)
        line = Text(f"{clock(message['start']):>7}  ", style="cyan")
        line.append(printable(message["text"]), style="default")
        self._console.print(line, soft_wrap=not self._console.is_terminal)

    def _show_error(self, message: Message) -> None:
        self._console.print(Text(f"server: {printable(message['message'])}", style="yellow"))

    def _rendered(self) -> Group:
        return Group(*self._partials.values(), self._progress)
