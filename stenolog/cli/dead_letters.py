"""`stenolog dead-letters`: facts and events that could not be applied or forwarded."""

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.table import Table

from eventlog.keys import READ_MODELS, SINKS
from eventlog.projection.dead_letters import (
    ABSENT,
    DROPPED,
    MOVED,
    NO_ROOM,
    DeadLetter,
    find_dead_letter,
    redrive,
)
from eventlog.projection.dead_letters import read_dead_letters as iterate_dead_letters
from projections.forwarding.fact_reader import rebuild_event
from projections.integration_events import Event
from stenolog.cli.options import ExampleCommand, ExampleGroup, options
from stenolog.cli.output import local_time, output_console, print_json
from stenolog.errors import UNABLE, UserError
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("id", "given up", "session", "fact", "event", "attempts", "reason")
_ID_PARTS = 3
_NUMBER = re.compile("[0-9]{1,9}")
_ENTRY = re.compile("[0-9]{1,19}-[0-9]{1,19}")  # ids that Redis makes by its clock, and surely takes


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter in the form that is printed."""

    id: str
    projection: str
    session_id: str
    run: str
    fact: str
    reason: str
    kind: str
    event_id: str
    attempts: int
    at_ms: int
    consumer: str


@click.group("dead-letters", cls=ExampleGroup, epilog="stenolog dead-letters redrive eventbridge --all")
def dead_letters() -> None:
    """Facts and events that could not be applied or forwarded: list them, show one, forward them again."""


@dead_letters.command("list", cls=ExampleCommand, epilog=(
    "stenolog dead-letters list\n"
    "stenolog dead-letters list eventbridge --json | jq -r '.[].reason' | sort | uniq -c"
))
@click.argument("projection", required=False)
@options("data")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Most letters listed.")
@options("json")
def list_dead_letters(*, projection: str | None, limit: int, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """List dead letters, of PROJECTION or of all: when, of which session and fact, and why; never any transcript."""
    names = (*READ_MODELS, *SINKS) if projection is None else (_known(projection),)
    found = sorted(asyncio.run(_find_all(load(**overrides), names)), key=lambda letter: letter.at_ms)
    if as_json:
        print_json([_view(letter) for letter in found[:limit]])
        return
    output_console().print(_table(found[:limit]))
    if len(found) > limit:
        print(f"{len(found) - limit} more; see --limit", file=sys.stderr)


@dead_letters.command("show", cls=ExampleCommand, epilog=(
    "stenolog dead-letters show eventbridge:12:1700000000000-0\n"
    "stenolog dead-letters show eventbridge:12:1700000000000-0 --body | jq .data"
))
@click.argument("letter_id", metavar="ID")
@options("data")
@click.option("--body", is_flag=True, help="Print the event as JSON, made again from the facts; it holds speech.")
@options("json")
def show_dead_letter(*, letter_id: str, body: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Show one dead letter, by the ID that `list` gives; exit status 1 if it does not exist."""
    letter, event = asyncio.run(_find(load(**overrides), _parse_id(letter_id), with_event=body))
    if letter is None:
        raise UserError(f"no dead letter {letter_id} exists")
    if body:
        if event is None:
            raise UserError(f"no event can be made of {letter_id}: {_why_no_event(letter)}")
        print_json(event.body)
    elif as_json:
        print_json(_view(letter))
    else:
        for name, value in msgspec.structs.asdict(_view(letter)).items():
            print(f"{name}: {local_time(value) if name == 'at_ms' else value}")


@dead_letters.command("redrive", cls=ExampleCommand, epilog=(
    "stenolog dead-letters redrive eventbridge --all\n"
    "stenolog dead-letters redrive webhooks webhooks:12:1700000000000-0"
))
@click.argument("projection")
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@options("data")
@click.option("--all", "everything", is_flag=True, help="All that exist now.")
@options("json")
def redrive_dead_letters(
    *, projection: str, letter_ids: Sequence[str], everything: bool, as_json: bool, **overrides: Any  # noqa: ANN401
) -> None:
    """Let the sink PROJECTION get dead letters once again, by the process that forwards to it.

    One that fails again comes back to the dead letters. One whose facts are gone, expired or erased, is dropped.
    Exit status 1 if one of the IDs does not exist.
    """
    if _known(projection) not in SINKS:
        raise UserError(
            f"{projection} forwards nothing: its dead letters are facts that it couldn't apply. Once the cause is "
            f"fixed, `stenolog rebuild {projection}` applies them; {', '.join(SINKS)} can be redriven", UNABLE,
        )  # fmt: skip
    if bool(letter_ids) == everything:
        raise UserError("name the letters that are to be redriven, or give --all", UNABLE)
    ids = [_parse_id(letter_id, projection) for letter_id in letter_ids]
    codes = asyncio.run(_redrive(load(**overrides), projection, ids))
    counts = {name: codes.count(code) for name, code in
              (("redriven", MOVED), ("dropped", DROPPED), ("absent", ABSENT), ("no_room", NO_ROOM))}  # fmt: skip
    if as_json:
        print_json(counts)
    else:
        print(_summary(projection, counts))
    if counts["absent"] or counts["no_room"]:
        sys.exit(1)


def _summary(projection: str, counts: dict[str, int]) -> str:
    lines = [f"{counts['redriven']} of {projection} will be sent again"]
    if counts["dropped"]:
        lines.append(f"{counts['dropped']} dropped: their facts are gone, expired or erased")
    if counts["absent"]:
        lines.append(f"{counts['absent']} not there")
    if counts["no_room"]:
        lines.append(f"{counts['no_room']} left: too many wait to be sent again already")
    return "\n".join(lines)


def _known(projection: str) -> str:
    names = (*READ_MODELS, *SINKS)
    if projection not in names:
        raise UserError(f"no projection {projection} exists, only {', '.join(names)}", UNABLE)
    return projection


def _parse_id(text: str, projection: str = "") -> tuple[str, int, str]:
    """Projection, partition and entry of an id; the first may be omitted where `projection` is known."""
    parts = text.split(":")
    if projection and len(parts) == _ID_PARTS - 1:
        parts = [projection, *parts]
    match parts:
        case [name, number, entry_id] if _NUMBER.fullmatch(number) and _ENTRY.fullmatch(entry_id):
            if projection in ("", name):
                return _known(name), int(number), entry_id
    raise UserError(f"{text} is no dead letter's id; `stenolog dead-letters list` shows them", UNABLE)


async def _find_all(settings: Settings, names: Sequence[str]) -> list[DeadLetter]:
    async with connected(settings) as server:
        return [letter async for page in iterate_dead_letters(server, names) for letter in page]


async def _find(
    settings: Settings, letter_id: tuple[str, int, str], *, with_event: bool
) -> tuple[DeadLetter | None, Event | None]:
    async with connected(settings) as server:
        letter = await find_dead_letter(server, *letter_id)
        if letter is None or not with_event:
            return letter, None
        return letter, await rebuild_event(server, letter, with_words=settings.forward_words)


async def _redrive(settings: Settings, projection: str, ids: Sequence[tuple[str, int, str]]) -> list[int]:
    """The outcome of each letter; of all of the projection if none is named."""
    async with connected(settings) as server:
        if not ids:
            every = [letter async for page in iterate_dead_letters(server, [projection]) for letter in page]
            return await redrive(server, every)
        found = [await find_dead_letter(server, *letter_id) for letter_id in ids]
        codes = await redrive(server, [letter for letter in found if letter is not None])
        return [*codes, *[ABSENT] * found.count(None)]


def _why_no_event(letter: DeadLetter) -> str:
    if not letter.kind:
        return "it is about a fact that can't be read or applied"
    return "its facts are gone, expired or erased, or can't be read"


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id, projection=letter.projection, session_id=letter.keys.session_id, run=letter.keys.run,
        fact=letter.fact, reason=letter.reason, kind=letter.kind, event_id=letter.event_id, attempts=letter.attempts,
        at_ms=letter.at_ms, consumer=letter.consumer,
    )  # fmt: skip


def _table(found: Sequence[DeadLetter]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for letter in found:
        table.add_row(
            letter.id, local_time(letter.at_ms), letter.keys.session_id, letter.fact, letter.kind or "the fact",
            str(letter.attempts or ""), letter.reason,
        )
    return table
