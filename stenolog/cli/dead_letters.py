"""`stenolog dead-letters`: what could not be applied or forwarded."""

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from eventlog.keys import READ_MODELS, SINKS
from eventlog.projection.dead_letters import (
    ABSENT,
    DROPPED,
    MOVED,
    NO_ROOM,
    DeadLetter,
    find_dead_letter,
    read_dead_letters,
    redrive,
)
from projections.forwarding.fact_reader import rebuild_event
from projections.integration_events import Event
from stenolog.cli.errors import UNABLE, UserError, told
from stenolog.settings import Settings, load
from stenolog.wiring import connected

_COLUMNS = ("id", "set aside", "session", "fact", "event", "attempts", "reason")
_PIPED_WIDTH = 260  # without a terminal there is no width to fit into
_ID_PARTS = 3
_NUMBER = re.compile("[0-9]{1,9}")
_ENTRY = re.compile("[0-9]{1,19}-[0-9]{1,19}")  # what Redis gives by its clock, and surely takes


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it is printed."""

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


def run_list(*, projection: str | None, limit: int, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401 - settings have many types
    """Print dead letters, the oldest first, as a table or as a JSON array."""
    names = (*READ_MODELS, *SINKS) if projection is None else (_known(projection),)
    with told():
        found = asyncio.run(_found(load(**overrides), names))
    found = sorted(found, key=lambda letter: letter.at_ms)
    if as_json:
        print(msgspec.json.encode([_shown(letter) for letter in found[:limit]]).decode())
        return
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, no_color=True, width=_PIPED_WIDTH)
    console.print(_table(found[:limit]))
    if len(found) > limit:
        print(f"{len(found) - limit} more; see --limit", file=sys.stderr)


def run_show(*, letter_id: str, body: bool, as_json: bool, **overrides: Any) -> None:  # noqa: ANN401
    """Print one dead letter, or the event that it is about."""
    projection, number, entry_id = _parts(letter_id)
    with told():
        letter, event = asyncio.run(_looked_up(load(**overrides), projection, number, entry_id, with_event=body))
    if letter is None:
        raise UserError(f"there is no dead letter {letter_id}")
    if body:
        if event is None:
            raise UserError(f"no event can be made of {letter_id}: {_why_no_event(letter)}")
        print(msgspec.json.encode(event.body).decode())
        return
    shown = _shown(letter)
    if as_json:
        print(msgspec.json.encode(shown).decode())
        return
    for name, value in msgspec.structs.asdict(shown).items():
        print(f"{name}: {_time(value) if name == 'at_ms' else value}")


def run_redrive(
    *, projection: str, letter_ids: Sequence[str], everything: bool, as_json: bool, **overrides: Any  # noqa: ANN401
) -> None:
    """Offer dead letters to their sink once more, and say what became of them."""
    if _known(projection) not in SINKS:
        raise UserError(
            f"{projection} forwards nothing: its dead letters are facts that it couldn't apply. What was mended since, "
            f"`stenolog rebuild {projection}` applies; those of {', '.join(SINKS)} can be sent once more", UNABLE,
        )  # fmt: skip
    if bool(letter_ids) == everything:
        raise UserError("name the letters that are to be sent once more, or give --all", UNABLE)
    parts = [_parts(letter_id, projection) for letter_id in letter_ids]
    with told():
        answers = asyncio.run(_redriven(load(**overrides), projection, parts, everything=everything))
    counts = {name: answers.count(code) for name, code in
              (("redriven", MOVED), ("dropped", DROPPED), ("absent", ABSENT), ("no_room", NO_ROOM))}  # fmt: skip
    print(msgspec.json.encode(counts).decode() if as_json else _redrive_told(projection, counts))
    if counts["absent"] or counts["no_room"]:
        sys.exit(1)


def _redrive_told(projection: str, counts: dict[str, int]) -> str:
    lines = [f"{counts['redriven']} of {projection} will be sent once more"]
    if counts["dropped"]:
        lines.append(f"{counts['dropped']} dropped: their facts are gone, expired or erased")
    if counts["absent"]:
        lines.append(f"{counts['absent']} not there")
    if counts["no_room"]:
        lines.append(f"{counts['no_room']} left: too many wait to be sent once more already")
    return "\n".join(lines)


def _known(projection: str) -> str:
    names = (*READ_MODELS, *SINKS)
    if projection not in names:
        raise UserError(f"there is no projection {projection}; there are {', '.join(names)}", UNABLE)
    return projection


def _parts(letter_id: str, projection: str = "") -> tuple[str, int, str]:
    """Projection, partition and entry of an id, whose projection may be left out where it is clear."""
    parts = letter_id.split(":")
    if projection and len(parts) == _ID_PARTS - 1:
        parts = [projection, *parts]
    match parts:
        case [name, number, entry_id] if _NUMBER.fullmatch(number) and _ENTRY.fullmatch(entry_id):
            if projection in ("", name):
                return _known(name), int(number), entry_id
    raise UserError(f"{letter_id} is no dead letter's id; `stenolog dead-letters list` shows them", UNABLE)


async def _found(settings: Settings, names: Sequence[str]) -> list[DeadLetter]:
    async with connected(settings) as server:
        return [letter async for page in read_dead_letters(server, names) for letter in page]


async def _looked_up(
    settings: Settings, projection: str, number: int, entry_id: str, *, with_event: bool
) -> tuple[DeadLetter | None, Event | None]:
    async with connected(settings) as server:
        letter = await find_dead_letter(server, projection, number, entry_id)
        event = await rebuild_event(server, letter) if letter is not None and with_event else None
        return letter, event


async def _redriven(
    settings: Settings, projection: str, parts: Sequence[tuple[str, int, str]], *, everything: bool
) -> list[int]:
    async with connected(settings) as server:
        if everything:
            return await redrive(
                server, [letter async for page in read_dead_letters(server, [projection]) for letter in page]
            )
        found = [await find_dead_letter(server, *part) for part in parts]
        answers = await redrive(server, [letter for letter in found if letter is not None])
        return [*answers, *[ABSENT] * found.count(None)]


def _why_no_event(letter: DeadLetter) -> str:
    if not letter.kind:
        return "it is about a fact that can't be read or applied"
    return "its facts are gone, expired or erased, or can't be read"


def _shown(letter: DeadLetter) -> Shown:
    return Shown(
        id=letter.id, projection=letter.projection, session_id=letter.keys.session_id, run=letter.keys.run,
        fact=letter.fact, reason=letter.reason, kind=letter.kind, event_id=letter.event_id, attempts=letter.attempts,
        at_ms=letter.at_ms, consumer=letter.consumer,
    )  # fmt: skip


def _table(found: Sequence[DeadLetter]) -> Table:
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for letter in found:
        told_of = letter.kind or "the fact"
        table.add_row(
            letter.id, _time(letter.at_ms), letter.keys.session_id, letter.fact, told_of, str(letter.attempts or ""),
            letter.reason,
        )
    return table


def _time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
