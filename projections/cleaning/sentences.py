"""Where sentences begin and end: seams between utterances, stops, capitals.

An utterance ends at a pause, which need not be the end of a sentence. A recogniser gets each utterance alone, so it
often puts a full stop at the end of half a sentence and a capital at the start of the other half. The seam is repaired
only where the text leaves little doubt.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from projections.cleaning.languages import Language
from projections.cleaning.tokens import CLOSERS, DASHES, LOUD_STOPS, PAUSES, Token, find_full_stop

_CAPITAL_WORDS = 4
"""So many different words in capitals are a recogniser that knows no other letters; fewer may be abbreviations."""
_ADDRESS_MARKS = frozenset("./@_:\\&")  # in addresses and names of files, whose letters mean something
_PRONOUN = frozenset({"i", "i'm", "i'll", "i've", "i'd"})


def continues_sentence(before: Sequence[Token], after: Sequence[Token], language: Language, *, soon: bool) -> bool:
    """Whether the sentence that `before` broke off continues in `after`; `soon`: no long pause is between them."""
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


def join_sentences(before: list[Token], after: Sequence[Token], language: Language, lower: Container[str]) -> None:
    """Make one sentence of both; `lower`: words that also occur within sentences, in lower case."""
    if before[-1].stop:
        before[-1].trail = ""
    first = after[0]
    plain = first.core[:1].lower() + first.core[1:]
    if first.core[1:] == first.core[1:].lower() and (plain in language.lowered or plain in lower):
        first.core = plain
    before += after


def end_sentence(tokens: Sequence[Token], language: Language) -> None:
    """End the last sentence with a stop, if it has none."""
    last = tokens[-1]
    if last.stop or last.trail[-1:] in tuple(";:"):
        return
    closers = "".join(char for char in last.trail if char in CLOSERS)
    last.trail = closers + ("…" if last.core in language.dangling else find_full_stop(last.core[-1]))


def _is_ellipsis(trail: str) -> bool:
    return "..." in trail or "…" in trail


def is_all_capitals(tokens: Iterable[Token]) -> bool:
    """Whether the whole transcript is in capitals."""
    words: set[str] = set()
    for token in tokens:
        if any(char.islower() for char in token.core):
            return False
        if sum(char.isupper() for char in token.core) > 1:
            words.add(token.core)
    return len(words) >= _CAPITAL_WORDS


def lower_words(tokens: Iterable[Token]) -> None:
    """Put all words into lower case."""
    for token in tokens:
        lower = token.core.lower()
        if lower.casefold() == token.core.casefold():
            token.core = lower


def capitalise_sentences(tokens: Sequence[Token], language: Language) -> None:
    """Capitalise the first word of each sentence, and the English "I"."""
    begins = True
    for token in tokens:
        if begins or token.begins or (language.code == "en" and token.word in _PRONOUN and not token.lead):
            token.core = capitalise(token.core, language)
        begins = bool(token.trail) and _ends_sentence(token, language)


def capitalise(core: str, language: Language) -> str:
    """The word with a capital, unless its letters mean something ("iPhone") or can't have one."""
    if any(char in _ADDRESS_MARKS or char.isdigit() for char in core) or core[1:] != core[1:].lower():
        return core
    if core[:1] == "i" and language.code in {"tr", "az"}:  # whose capital is another letter
        return core
    upper = core[:1].upper()
    # "ß" or a ligature would become two letters, and the Turkish dotless i another one.
    return upper + core[1:] if len(upper) == 1 and upper.casefold() == core[0].casefold() else core


def _ends_sentence(token: Token, language: Language) -> bool:
    """Whether a sentence certainly ends here: not after "Mr.", "e.g.", "J." or an ellipsis, nor within a quotation."""
    if not token.stop or token.trail[-1] in CLOSERS or "..." in token.trail or "…" in token.trail:
        return False
    initial = len(token.core) == 1 and token.core.isalpha() and token.core != "I"
    abbreviated = "." in token.core or token.word in language.abbreviations or initial
    return not (token.stop == "." and abbreviated)
