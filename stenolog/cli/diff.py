"""`stenolog diff`: two runs of the same audio, word by word."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventlog.codec import UndecodableEventError
from eventlog.keys import SessionKeys
from eventlog.readmodel.runs import Finals, find_sessions, read_finals
from eventlog.redis.server import Server
from stenolog.cli.errors import user_error
from stenolog.cli.options import ExampleCommand, options
from stenolog.cli.output import clock, output_console, print_json
from stenolog.errors import UNABLE, UserError
from stenolog.operations.transcript_diff import EQUAL, Counts, Ignored, Stretch, Word, compared, counts, words_of
from stenolog.settings import Settings, load
from stenolog.wiring import connected

DIFFERENT = 1
"""Exit status of runs that differ; as with diff(1), 2 is that of those that can't be compared."""

_COLUMNS = ("session", "words", "words", "substituted", "deleted", "inserted", "WER")


class Comparison(NamedTuple):
    """Which runs and sessions to compare, and how to print them."""

    run_a: str
    run_b: str
    sessions: Sequence[str]
    ignored: Ignored
    context: int
    """Words that agree shown on either side of a difference."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Neighbouring words that differ."""

    kind: str
    """``replace``, ``delete`` (only the first run has them) or ``insert``."""
    a: str
    b: str
    start: float
    """Of the first word, in seconds of audio; of its utterance if the word's own is unknown."""
    channel: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One session."""

    session_id: str
    is_over: bool
    """False if one of the runs is still open, or has lost its end: then there may be more to compare later."""
    counts: Counts
    differences: list[Difference]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    run_a: str
    run_b: str
    sessions: list[Compared]
    total: Counts
    missing: list[str]
    """Named sessions that lack one of the runs."""


class _Both(NamedTuple):
    session_id: str
    is_over: bool
    stretches: list[Stretch]


@click.command(cls=ExampleCommand, epilog=(
    "stenolog diff live large-v3                         every session that has both\n"
    "stenolog diff live large-v3 $SESSION --context 3\n"
    "stenolog diff live large-v3 --summary --ignore-case --ignore-punctuation\n"
    "stenolog diff live large-v3 --json | jq .total.wer"
))
@click.argument("runs", metavar="RUN_A RUN_B", nargs=2)
@click.argument("sessions", metavar="[SESSION]...", nargs=-1)
@options("data")
@click.option("--ignore-case", is_flag=True, help="Upper and lower case make no difference.")
@click.option("--ignore-punctuation", is_flag=True, help="Punctuation makes no difference.")
@click.option(
    "--context", type=click.IntRange(0, 1_000_000), default=8, show_default=True, metavar="WORDS",
    help="Words that agree, shown on either side.",
)
@click.option("--summary", is_flag=True, help="Only the numbers, a line a session.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(
    *, runs: tuple[str, str], sessions: Sequence[str], ignore_case: bool, ignore_punctuation: bool, context: int,
    as_json: bool, summary: bool, **overrides: Any,  # noqa: ANN401 - settings have many types
) -> None:  # fmt: skip
    """Compare two runs of the same audio word by word: the differences, and RUN_B's word error rate against RUN_A.

    `live` is the run of a session's own client; other runs are replays. Words are compared unchanged unless
    --ignore-case or --ignore-punctuation is given. [-words-] are RUN_A's alone, {+words+} RUN_B's. Exit status 0 if
    the runs agree, 1 if they differ, 2 if one does not exist or Redis can't be used.
    """
    comparison = Comparison(*runs, sessions, Ignored(ignore_case, ignore_punctuation), context)
    try:
        console = None if as_json or summary else output_console()
        report = asyncio.run(_report(load(**overrides), comparison, console))
    except UndecodableEventError as error:
        raise UserError("a run holds facts that this version can't read", UNABLE) from error
    except Exception as error:
        if found := user_error(error):
            raise UserError(found.message, UNABLE) from error
        raise
    if as_json:
        print_json(report)
    else:
        output_console().print(_table(report))
        _print_incomplete(report)
    if report.missing or not report.sessions:
        sys.exit(UNABLE)
    if report.total.errors:
        sys.exit(DIFFERENT)


async def _report(settings: Settings, comparison: Comparison, console: Console | None) -> Report:
    total, missing = Counts(wer=0.0), []
    found: list[Compared] = []
    async with connected(settings) as server:
        async for keys, both in _sessions(server, comparison):
            if both is None:
                missing.append(keys.session_id)
                continue
            one = Compared(
                session_id=keys.session_id, is_over=both.is_over, counts=counts(both.stretches),
                differences=list(_differences(both.stretches)),
            )  # fmt: skip
            total += one.counts
            found.append(one)
            if console is not None:
                _show(console, comparison, both, one.counts)
    return Report(run_a=comparison.run_a, run_b=comparison.run_b, sessions=found, total=total, missing=missing)


async def _sessions(server: Server, comparison: Comparison) -> AsyncIterator[tuple[SessionKeys, _Both | None]]:
    """Yield the named sessions, or all that have both runs, one after the other."""
    sessions = [server.keys.of(session_id) for session_id in dict.fromkeys(comparison.sessions)]
    if not sessions:
        others = {keys.session_id for keys in await find_sessions(server, comparison.run_b)}
        every = [keys for keys in await find_sessions(server, comparison.run_a) if keys.session_id in others]
        sessions = sorted(every, key=lambda keys: keys.session_id)
    for keys in sessions:
        first = await read_finals(server, keys.run(comparison.run_a))
        second = await read_finals(server, keys.run(comparison.run_b))
        if first is None or second is None:
            yield keys, None
        else:
            yield keys, _compare(keys.session_id, comparison.ignored, first, second)


def _compare(session_id: str, ignored: Ignored, first: Finals, second: Finals) -> _Both:
    stretches = compared(words_of(first.finals, ignored), words_of(second.finals, ignored))
    return _Both(session_id, first.is_over and second.is_over, stretches)


def _differences(stretches: Sequence[Stretch]) -> Iterator[Difference]:
    for one in stretches:
        if one.kind != EQUAL:
            yield Difference(
                kind=one.kind, a=_joined(one.first), b=_joined(one.second), channel=one.channel,
                start=round((one.first or one.second)[0].start_s, 3),
            )  # fmt: skip


def _show(console: Console, comparison: Comparison, both: _Both, found: Counts) -> None:
    if not found.errors:
        return
    console.print(Text(f"{both.session_id}  {comparison.run_a} -> {comparison.run_b}", "bold"), Text(_in_words(found)))
    channels = {stretch.channel for stretch in both.stretches}
    for channel in sorted(channels):
        mine = [stretch for stretch in both.stretches if stretch.channel == channel]
        for line in _lines(mine, comparison.context, f" channel {channel + 1}" if len(channels) > 1 else ""):
            console.print(line, soft_wrap=True)
    console.print()


def _lines(stretches: Sequence[Stretch], context: int, channel: str) -> Iterator[Text]:
    """The differences with the words around them; a new line wherever more than these are left out between two."""
    line: Text | None = None
    for number, one in enumerate(stretches):
        if one.kind != EQUAL:
            if line is None:
                at = clock((one.first or one.second)[0].start_s)
                line = Text("  ").append(f"[{at}{channel}] ", "dim").append(_before(stretches, number, context))
            line.append_text(_marked(one))
        elif line is not None:
            is_last = number == len(stretches) - 1
            if not is_last and len(one.first) <= 2 * context:
                line.append(_joined(one.first) + " ")
                continue
            line.append(_joined(one.first[:context]) + (" …" if len(one.first) > context else ""))
            yield line
            line = None
    if line is not None:
        yield line


def _before(stretches: Sequence[Stretch], number: int, context: int) -> str:
    """The words right before a difference."""
    words = stretches[number - 1].first if number else ()
    shown = words[max(0, len(words) - context) :]
    return ("… " if len(words) > len(shown) else "") + (_joined(shown) + " " if shown else "")


def _marked(stretch: Stretch) -> Text:
    """As `git diff --word-diff` has it, so that it can be read without colours."""
    text = Text()
    if stretch.first:
        text.append(f"[-{_joined(stretch.first)}-]", "red")
    if stretch.second:
        text.append(f"{{+{_joined(stretch.second)}+}}", "green")
    return text.append(" ")


def _joined(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def _table(report: Report) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    table.columns[1].header, table.columns[2].header = report.run_a, report.run_b
    for column in table.columns[1:]:
        column.justify = "right"
    for one in report.sessions:
        table.add_row(one.session_id, *_numbers(one.counts), style=None if one.counts.errors else "dim")
    table.add_row("in all", *_numbers(report.total), style="bold")
    return table


def _numbers(found: Counts) -> tuple[str, ...]:
    names = ("words_a", "words_b", "substitutions", "deletions", "insertions")
    return *(str(getattr(found, name)) for name in names), _percent(found)


def _percent(found: Counts) -> str:
    return "-" if found.wer is None else f"{100 * found.wer:.2f} %"


def _in_words(found: Counts) -> str:
    return (
        f"WER {_percent(found)}: {found.substitutions} substituted, {found.deletions} deleted, "
        f"{found.insertions} inserted of {found.words_a} words"
    )


def _print_incomplete(report: Report) -> None:
    for session_id in report.missing:
        print(f"{session_id} doesn't have both runs", file=sys.stderr)
    if not report.sessions and not report.missing:
        print(f"no session has both {report.run_a} and {report.run_b}", file=sys.stderr)
    if going := [one.session_id for one in report.sessions if not one.is_over]:
        print(f"not over yet, compared so far: {', '.join(going)}", file=sys.stderr)
