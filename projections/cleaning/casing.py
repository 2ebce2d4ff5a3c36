"""Capitals where sentences begin, and no shouting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from projections.cleaning.languages import Language
from projections.cleaning.marks import CLOSERS
from projections.cleaning.tokens import Token

_SHOUTED_WORDS = 4
"""So many different words in capitals are a recogniser that knows no other letters; fewer may be abbreviations."""
_NO_WORDS = frozenset("./@_:\\&")  # in addresses and names of files, whose letters mean something
_PRONOUN = frozenset({"i", "i'm", "i'll", "i've", "i'd"})


def shouted(tokens: Iterable[Token]) -> bool:
    """Whether the whole transcript is in capitals."""
    words: set[str] = set()
    for token in tokens:
        if any(char.islower() for char in token.core):
            return False
        if sum(char.isupper() for char in token.core) > 1:
            words.add(token.core)
    return len(words) >= _SHOUTED_WORDS


def whispered(tokens: Iterable[Token]) -> None:
    """Puts all words into lower case."""
    for token in tokens:
        lower = token.core.lower()
        if lower.casefold() == token.core.casefold():
            token.core = lower


def cased(tokens: Sequence[Token], language: Language) -> None:
    """Capitalises the first word of each sentence, and the English "I"."""
    begins = True
    for token in tokens:
        if begins or token.begins or (language.code == "en" and token.word in _PRONOUN and not token.lead):
            token.core = capital(token.core, language)
        begins = bool(token.trail) and _ends_sentence(token, language)


def capital(core: str, language: Language) -> str:
    """The word with a capital, unless its letters mean something ("iPhone") or can't have one."""
    if any(char in _NO_WORDS or char.isdigit() for char in core) or core[1:] != core[1:].lower():
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
