"""Removes sounds and phrases that only hold the floor, together with the punctuation that set them off."""

from __future__ import annotations

from collections.abc import Sequence

from projections.cleaning.languages import Language
from projections.cleaning.sentences import capitalise
from projections.cleaning.tokens import CLOSERS, OPENERS, STOPS, Token


def remove_fillers(tokens: Sequence[Token], language: Language) -> list[Token]:
    """The tokens without fillers; a sentence that one began begins with the next word, one that it ended ends."""
    kept: list[Token] = []
    heir: Token | None = None  # the filler whose capital and opening marks the next word takes over
    index = 0
    is_sound = _match_nothing if language.filler is None else language.filler.fullmatch
    while index < len(tokens):
        word = tokens[index].word  # most are none, and need no closer look
        is_suspect = word in language.phrases or is_sound(word)
        count = _filler(tokens, index, kept, language) if is_suspect else 0
        if not count:
            kept.append(tokens[index] if heir is None else _inherit(tokens[index], heir, kept, language))
            heir = None
        else:
            heir = heir or tokens[index]
            following = tokens[index + count] if index + count < len(tokens) else None
            _remove(tokens[index + count - 1], following, kept, language)
        index += count or 1
    return kept


def _match_nothing(_: str) -> None:
    """Matches nothing."""


def _filler(tokens: Sequence[Token], index: int, kept: Sequence[Token], language: Language) -> int:
    """How many tokens, from this one on, are a filler."""
    token = tokens[index]
    if language.filler is not None and language.filler.fullmatch(token.word):
        return 0 if _is_word_after_all(token, kept) else 1
    if token.word not in language.phrases:
        return 0
    before = tokens[index - 1].trail if index else ""
    return 2 if _is_phrase(tokens[index : index + 3], _begins(kept), before, language) else 0


def _begins(kept: Sequence[Token]) -> bool:
    return not kept or bool(kept[-1].stop)


def _is_word_after_all(token: Token, kept: Sequence[Token]) -> bool:
    """Whether it is quoted ('say "um"'), an abbreviation ("the ER"), or a unit ("5 mm")."""
    quoted = any(char in OPENERS for char in token.lead) and any(char in CLOSERS for char in token.trail)
    unit = token.word == "mm" and bool(kept) and kept[-1].core[-1:].isdigit()
    return quoted or unit or (len(token.core) > 1 and token.core.isupper())


def _is_phrase(tokens: Sequence[Token], begins: bool, before: str, language: Language) -> bool:  # noqa: FBT001
    """Whether "you know" or its like is here, between commas or at a sentence's start, with more to come."""
    if len(tokens) < 3:  # noqa: PLR2004 - two words and what follows
        return False
    first, second, following = tokens
    said, where = language.phrases[first.word]
    if second.word != said or first.trail or second.lead or second.trail != ",":
        return False
    return not following.stop if begins else where == "anywhere" and before == ","


def _remove(filler: Token, following: Token | None, kept: Sequence[Token], language: Language) -> None:
    """Give the marks behind a filler to the word before it; an ellipsis only if the sentence was broken off there."""
    if not kept or kept[-1].stop:
        return
    before = kept[-1]
    is_continued = following is not None and (following.core[0].islower() or following.word[:2] in ("i", "i'"))
    if filler.stop and not (is_continued and filler.is_open):
        before.trail = before.trail.rstrip(" ,") + "".join(char for char in filler.trail if char in STOPS + CLOSERS)
    elif before.trail == "," and before.word in language.binding:
        before.trail = ""


def _inherit(token: Token, filler: Token, kept: Sequence[Token], language: Language) -> Token:
    token.lead = "".join(char for char in filler.lead if char in OPENERS) + token.lead
    if filler.core[:1].isupper() and _begins(kept):
        token.core = capitalise(token.core, language)
    return token
