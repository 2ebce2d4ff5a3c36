"""Where utterances meet: an utterance ends at a pause, which need not be the end of a sentence.

A recogniser hears each utterance alone, so it often puts a full stop at the end of half a sentence and a capital at the
start of the other half. The seam is mended only where the text leaves little doubt.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from projections.cleaning.languages import Language
from projections.cleaning.marks import CLOSERS, DASHES, LOUD_STOPS, PAUSES, full_stop
from projections.cleaning.tokens import Token


def goes_on(before: Sequence[Token], after: Sequence[Token], language: Language, *, soon: bool) -> bool:
    """Whether the sentence that `before` broke off goes on in `after`; `soon`: no long pause is between them."""
    last, first = before[-1], after[0]
    if any(char in last.trail for char in LOUD_STOPS + CLOSERS) or first.lead:
        return False
    if last.trail and last.trail[-1] in PAUSES + DASHES and last.trail[-1] not in ";:":
        return True
    if last.core in (language.dangling if last.stop else language.unended):
        return True
    if not soon or not first.core[:1].islower():
        return False
    if last.stop:
        return _is_ellipsis(last.trail) or bool(after[-1].stop)
    return before[0].core[:1].isupper()


def join(before: list[Token], after: Sequence[Token], language: Language, lower: Container[str]) -> None:
    """Makes one sentence of both; `lower`: words that were also heard within sentences, in lower case."""
    if before[-1].stop:
        before[-1].trail = ""
    first = after[0]
    plain = first.core[:1].lower() + first.core[1:]
    if first.core[1:] == first.core[1:].lower() and (plain in language.lowered or plain in lower):
        first.core = plain
    before += after


def close(tokens: Sequence[Token], language: Language) -> None:
    """Ends the last sentence with a stop, if it has none."""
    last = tokens[-1]
    if last.stop or last.trail[-1:] in tuple(";:"):
        return
    closers = "".join(char for char in last.trail if char in CLOSERS)
    last.trail = closers + ("…" if last.core in language.dangling else full_stop(last.core[-1]))


def _is_ellipsis(trail: str) -> bool:
    return "..." in trail or "…" in trail

