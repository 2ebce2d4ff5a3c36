"""How well a text can be cut between two of its pieces: at sentences and clauses well, within a phrase badly."""
# ruff: noqa: RUF001 - marks of many scripts look like each other

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from edge.captions.pieces import Piece

SENTENCE, CLAUSE, CONJUNCTION, PHRASE, FUNCTION_WORD, INSIDE_WORD = 0, 4, 7, 16, 28, 90
"""Costs of a cut: lower is better. They order the choices; of the distances only some matter, such as that two commas
are no better than one sentence's end."""

PAUSE_MS, LONG_PAUSE_MS = 250, 800
"""Silence within speech that sounds like a break, and one that is as good as a full stop."""

_STOPS = ".?!…。！？؟।"
_MARKS = ",;:—–，、；：،؛"
_CLOSERS = "\"'”’»)]}」』》"

_CONJUNCTIONS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split()) for language, words in {
        "en": "and but or nor so because that which whose when where while if although though as than unless until "
              "since whether",
        "de": "und aber oder weil dass wenn als ob damit sondern denn während obwohl bevor nachdem",
        "fr": "et mais ou que qui dont où quand lorsque si parce comme donc puisque",
        "es": "y pero o porque que cuando si aunque como donde sino mientras",
    }.items()
}  # fmt: skip
"""By language: words that begin a clause, so that a line ends well before them."""

_ENGLISH_RELATIVE = frozenset({"who"})

_FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split()) for language, words in {
        "en": "a an the of to in on at by for from with and or but my your his her its our their i he she we they is "
              "are was were be been not no very mr mrs ms dr st",
        "de": "der die das ein eine einen einem einer den dem des zu in im am an auf von vom mit und oder ich er sie "
              "wir ist sind war nicht sehr herr frau dr",
        "fr": "le la les l' un une des de du à au aux en et ou je il elle on nous est sont ne pas très m. mme",
        "es": "el la los las un una unos de del a al en con y o yo no muy es son su mi sr sra",
    }.items()
}  # fmt: skip
"""By language: words that belong to the next one, so that a line ends badly behind them."""

_NONE: frozenset[str] = frozenset()


def break_costs(pieces: Sequence[Piece], language: str) -> list[int]:
    """The cost of a cut before each piece, and after the last; `language` is the text's code, such as "en"."""
    code = language[:2].lower() or "en"  # finals of versions that knew no language were English by default
    conjunctions, function_words = _CONJUNCTIONS.get(code, _NONE), _FUNCTION_WORDS.get(code, _NONE)
    if code == "en":
        conjunctions |= _ENGLISH_RELATIVE
    costs = [SENTENCE]
    for before, after in pairwise(pieces):
        bare = before.text.rstrip(_CLOSERS) or before.text
        word = before.text.casefold()
        if not after.is_spaced and before.columns == len(before.text) and after.columns == len(after.text):
            cost = INSIDE_WORD
        elif bare[-1] in _STOPS and word.rstrip(".") not in function_words:
            cost = SENTENCE
        elif bare[-1] in _MARKS:
            cost = CLAUSE
        elif word in function_words or word.rstrip(".") in function_words:
            cost = FUNCTION_WORD
        elif after.text.casefold() in conjunctions:
            cost = CONJUNCTION
        else:
            cost = PHRASE
        pause_ms = after.start_ms - before.end_ms
        if pause_ms >= LONG_PAUSE_MS:
            cost = SENTENCE
        elif pause_ms >= PAUSE_MS and cost != INSIDE_WORD:
            cost = cost * 2 // 5
        costs.append(cost)
    return [*costs, SENTENCE]
