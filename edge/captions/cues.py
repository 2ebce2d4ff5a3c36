"""Captions of finals: which words each shows, in which lines, and for how long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, pairwise, zip_longest
from typing import NamedTuple

from edge.captions.breaks import LONG_PAUSE_MS, SENTENCE, break_costs
from edge.captions.pieces import LINE_COLUMNS, Piece, printable, split_final, split_text, starts_of_columns
from eventlog.readmodel.documents import ListedFinal

LINES_PER_CUE = 2
"""More would hide the picture."""

MIN_CUE_MS, MAX_CUE_MS = 1000, 7000
"""A shorter one flashes by, a longer one is read twice; as broadcasters have them (5/6 s to 7 s)."""

GAP_MS = 80
"""Two frames of film between two captions, so that a change is seen as one."""

SHORT_GAP_MS = 400
"""A caption that would vanish for less than this before the next stays: a short gap flickers."""

COLUMNS_PER_S = 20
"""Read with ease by adults; captions stay longer for it where the speech leaves time."""

_CUE_COST = 10
"""Of one more caption, against the costs of cuts: a comma ends one that is well filled, and none of a few words."""
_SENTENCE_WITHIN = 2
"""Of a sentence's end within a caption, which is better at its end."""
_PAUSE_WITHIN, _LONG_PAUSE_WITHIN = 8, 60
"""Of a pause within a caption: the words after it would be read before they are said."""
_UNEVEN = 8
"""Of an empty caption, by the square of its emptiness: neighbours get as much text each."""
_TOO_LONG, _TOO_SHORT = 500, 12
"""Of one that can't last as long as it should, or not as short."""
_TOO_FAST = 1
"""By columns a second above the speed of easy reading."""
_VERY_LONG_PAUSE_MS = 1500


class Cue(NamedTuple):
    """One caption: at most `LINES_PER_CUE` lines of `LINE_COLUMNS`, for a while."""

    start_ms: int
    end_ms: int
    channel: int
    speaker: str
    lines: tuple[str, ...]


class _Block(NamedTuple):
    """The words of one caption, before its neighbours' times are known."""

    start_ms: int
    end_ms: int
    speaker: str
    lines: tuple[str, ...]
    columns: int


def make_cues(finals: Sequence[ListedFinal], *, named: bool = False) -> list[Cue]:
    """Captions in the order of their starts; `named` begins each final's with its speaker.

    Each lasts `MIN_CUE_MS` to `MAX_CUE_MS`, and begins no earlier than its first word; those of a channel are at least
    `GAP_MS` apart, for which one of very dense speech may be late.
    """
    of_channel: defaultdict[int, list[_Block]] = defaultdict(list)
    for final in sorted(finals, key=lambda one: (one.start, one.utterance)):
        of_channel[final.channel] += _blocks(final, named=named)
    found = chain.from_iterable(_timed(channel, blocks) for channel, blocks in of_channel.items())
    return sorted(found, key=lambda cue: (cue.start_ms, cue.channel, cue.end_ms))


def speaker_name(label: str) -> str:
    """The readable name of a speaker's label: ``Speaker 1`` for ``1``."""
    words = printable(label)
    return f"Speaker {words}" if words.isdigit() else words


def _timed(channel: int, blocks: Sequence[_Block]) -> Iterator[Cue]:
    """The captions of one channel: each stays as long as reading it takes, if the next leaves the time."""
    free_ms = 0
    for block, following in zip_longest(blocks, blocks[1:]):
        start_ms = max(block.start_ms, free_ms)
        shortest_ms, longest_ms = start_ms + MIN_CUE_MS, start_ms + MAX_CUE_MS
        end_ms = max(block.end_ms, start_ms + -(-block.columns * 1000 // COLUMNS_PER_S), shortest_ms)
        if following is not None:
            next_ms = following.start_ms - GAP_MS
            end_ms = next_ms if end_ms > next_ms - SHORT_GAP_MS + GAP_MS else end_ms
        end_ms = min(max(end_ms, shortest_ms), longest_ms)
        yield Cue(start_ms, end_ms, channel, block.speaker, block.lines)
        free_ms = end_ms + GAP_MS


def _blocks(final: ListedFinal, *, named: bool) -> list[_Block]:
    pieces, speaker = split_final(final), speaker_name(final.speaker)
    if not pieces:
        return []
    costs = break_costs(pieces, final.language)
    if named and speaker:
        name = split_text(f"{speaker}:", pieces[0].start_ms)
        pieces = [*name, pieces[0]._replace(is_spaced=True), *pieces[1:]]
        costs = [SENTENCE, *[_TOO_LONG] * len(name), *costs[1:]]
    columns = starts_of_columns(pieces)
    cuts = _cut(pieces, costs, columns, round(final.end * 1000))
    blocks: list[_Block] = []
    for first, last in pairwise(cuts):
        lines = _lines(pieces, costs, columns, first, last)
        blocks.append(_Block(
            pieces[first].start_ms, pieces[last - 1].end_ms, speaker, lines, sum(map(len, lines)) + len(lines) - 1,
        ))  # fmt: skip
    return blocks


def _cut(pieces: Sequence[Piece], costs: Sequence[int], columns: Sequence[int], end_ms: int) -> list[int]:
    """Where captions begin, and the end: the cheapest way to cut the pieces, by dynamic programming."""
    count = len(pieces)
    within = list(accumulate(map(_cost_within, pieces, pieces[1:], costs[1:]), initial=0))  # up to each piece
    best = [0.0, *[float("inf")] * count]
    came_from = [0] * (count + 1)
    for first in range(count):
        start_ms = pieces[first].start_ms
        offset = columns[first] + pieces[first].is_spaced
        line_end = first  # the first line takes what fits
        for last in range(first + 1, count + 1):
            if columns[last] - offset <= LINE_COLUMNS:
                line_end = last
            elif columns[last] - columns[line_end] - pieces[line_end].is_spaced > LINE_COLUMNS:
                break
            next_ms = pieces[last].start_ms if last < count else max(end_ms, pieces[-1].end_ms)
            cost = (
                best[first] + _CUE_COST + costs[last] + within[last - 1] - within[first]
                + _cost_of_time(pieces[last - 1].end_ms - start_ms, next_ms - start_ms, columns[last] - offset)
            )  # fmt: skip
            if cost < best[last]:
                best[last], came_from[last] = cost, first
    cuts = [count]
    while cuts[-1]:
        cuts.append(came_from[cuts[-1]])
    return cuts[::-1]


def _cost_within(before: Piece, after: Piece, cost: int) -> int:
    """Of having both pieces in one caption."""
    pause_ms = after.start_ms - before.end_ms
    if pause_ms >= _VERY_LONG_PAUSE_MS:
        return _LONG_PAUSE_WITHIN
    if pause_ms >= LONG_PAUSE_MS:
        return _PAUSE_WITHIN
    return _SENTENCE_WITHIN if cost == SENTENCE else 0


def _cost_of_time(said_ms: int, shown_ms: int, columns: int) -> float:
    """Of a caption whose words take `said_ms`, and that can be shown for `shown_ms`."""
    cost = _UNEVEN * (1 - columns / (LINES_PER_CUE * LINE_COLUMNS)) ** 2
    if said_ms > MAX_CUE_MS:
        cost += _TOO_LONG
    if shown_ms < MIN_CUE_MS:
        cost += _TOO_SHORT * (1 - shown_ms / MIN_CUE_MS)
    elif columns * 1000 > COLUMNS_PER_S * shown_ms:
        cost += _TOO_FAST * (columns * 1000 / shown_ms - COLUMNS_PER_S)
    return cost


def _lines(
    pieces: Sequence[Piece], costs: Sequence[int], columns: Sequence[int], first: int, last: int
) -> tuple[str, ...]:
    """The pieces as one line if it can hold them, else as two: cut at the best place, the lower line the longer one."""
    offset = columns[first] + pieces[first].is_spaced
    if columns[last] - offset <= LINE_COLUMNS:
        return (_joined(pieces[first:last]),)
    best, chosen = float("inf"), first + 1
    for middle in range(first + 1, last):
        upper = columns[middle] - offset
        lower = columns[last] - columns[middle] - pieces[middle].is_spaced
        if upper > LINE_COLUMNS:
            break
        if lower <= LINE_COLUMNS:
            cost = costs[middle] + abs(upper - lower) / 3 + (2 if upper > lower else 0)
            if cost < best:
                best, chosen = cost, middle
    return _joined(pieces[first:chosen]), _joined(pieces[chosen:last])


def _joined(pieces: Sequence[Piece]) -> str:
    return "".join(f" {piece.text}" if piece.is_spaced else piece.text for piece in pieces).lstrip(" ")
