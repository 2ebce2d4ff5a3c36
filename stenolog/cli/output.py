"""How commands print: JSON, tables that are plain where they are piped, times and lengths."""

import time
import unicodedata
from typing import Any

import msgspec
from rich.console import Console

PIPED_WIDTH = 260
"""Without a terminal a table has no width to fit into."""

_MINUTE_S, _HOUR_S = 60, 3600


def print_json(value: Any) -> None:  # noqa: ANN401 - a struct, or a list of them
    """Print one line of JSON; it is out at once, wherever it goes."""
    print(msgspec.json.encode(value).decode(), flush=True)


def output_console(piped_width: int = PIPED_WIDTH) -> Console:
    """A console on standard output: without colours, and as wide as it takes, if that is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, no_color=True, width=piped_width)


def local_time(at_ms: int) -> str:
    """A moment, from Unix ms."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def clock(seconds: float) -> str:
    """A length as a clock shows it: ``0:05``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), _MINUTE_S)
    hours, minutes = divmod(minutes, _HOUR_S // _MINUTE_S)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(character for character in text if unicodedata.category(character) != "Cc")
