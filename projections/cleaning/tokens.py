"""A text as words with the punctuation before and behind each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from projections.cleaning.languages import Language, words_of
from projections.cleaning.marks import (
    ATTACHED,
    BRACKETS,
    CLOSERS,
    DASHES,
    OPENERS,
    PAUSES,
    STOPS,
    TYPOGRAPHIC_APOSTROPHE,
    WIDE_STOPS,
    is_wide,
)

_LEAD = OPENERS + DASHES
_TRAIL = CLOSERS + STOPS + PAUSES + DASHES
_MARKS = frozenset(_LEAD + _TRAIL)
_MISPLACED = ",;?!"  # at a word's front, they belong to the word before
_FRENCH = "?!;:»"  # set off by a space there

# What Whisper writes for what isn't speech, within brackets or asterisks: "[BLANK_AUDIO]", "(soft music)", "*sighs*".
# Brackets alone convict nothing: each word of it must be one of these. At most 40 characters, so that the look-ahead
# of an unclosed bracket costs no more.
_SOUNDS = words_of(
    "applauding applause audio background beep beeping bell birds blank bleep cheering chirping chuckles chuckling "
    "clapping clears coughing coughs crosstalk crowd crying dramatic foreign gasps gentle groans inaudible indistinct "
    "instrumental language laughing laughs laughter light loud music musical no noise of pause phone playing plays "
    "ringing sigh sighs silence silent singing sniffs sobbing soft sound sounds speaking speech static tense the theme "
    "throat typing unintelligible upbeat video whispering wind"
)
_BRACKETED = re.compile(r"[\[(*]([^\[\]()*]{1,40})[\])*]")
_TIGHT_COMMA = re.compile(r"(?<=[^\W\d_]),(?=[^\W\d_])")


class Token:
    """One word.

    Attributes:
        lead: Punctuation before it.
        core: The word, which may hold inner punctuation.
        trail: Punctuation behind it.
        word: What the core is looked up and compared by, which capitals don't change.
        begins: It is known to begin a sentence, whatever stands before it.
    """

    __slots__ = ("begins", "core", "lead", "trail", "word")

    def __init__(self, lead: str, core: str, trail: str) -> None:
        """A word of a text."""
        self.lead = lead
        self.core = core
        self.trail = trail
        word = core.casefold()  # as `folded`, whose call would be a tenth of all cleaning
        self.word = word.replace(TYPOGRAPHIC_APOSTROPHE, "'") if TYPOGRAPHIC_APOSTROPHE in word else word
        self.begins = False

    @property
    def is_open(self) -> bool:
        """Whether the sentence may go on behind it as if nothing were there: no stop, no quotation mark."""
        return not self.trail or not self.trail.replace("...", "").strip(" ,…" + DASHES)

    @property
    def stop(self) -> str:
        """The first stop behind it; empty for none."""
        return next((char for char in self.trail if char in STOPS), "") if self.trail else ""


def split(text: str, language: Language) -> list[Token]:
    """The words of a text, without what isn't speech; punctuation that stood alone is beside a word."""
    tokens: list[Token] = []
    lead = ""
    text = _TIGHT_COMMA.sub(", ", _BRACKETED.sub(_spoken, text.replace("♪", " ").replace("♫", " ")))
    for piece in text.split():
        if piece.isalnum():  # most are, and need no closer look
            tokens.append(Token(lead, piece, ""))
            lead = ""
            continue
        if all(char in _MARKS for char in piece):
            lead = _beside(tokens, lead, piece, language)
            continue
        token = _token(piece, tokens)
        token.lead, lead = lead + token.lead, ""
        tokens.append(token)
    return tokens


def text_of(tokens: Sequence[Token]) -> str:
    """The words with their punctuation, separated as the script wants it."""
    pieces: list[str] = []
    for token in tokens:
        glued = pieces and pieces[-1][-1] in WIDE_STOPS and is_wide(token.core[0])
        pieces.append(f"{'' if glued or not pieces else ' '}{token.lead}{token.core}{token.trail}")
    return "".join(pieces)


def _spoken(match: re.Match[str]) -> str:
    words = re.findall(r"[^\W_]+", match[1].casefold())
    return " " if words and _SOUNDS.issuperset(words) else match[0]


def _token(piece: str, before: Sequence[Token]) -> Token:
    bare = piece
    if before and (bare := piece.lstrip(_MISPLACED)) != piece:
        before[-1].trail += piece[: len(piece) - len(bare)]
    core = bare.lstrip(_LEAD)
    if not core.rstrip(_TRAIL):
        core = bare
    lead = bare[: len(bare) - len(core)]
    stripped = core.rstrip(_TRAIL)
    return Token(lead, stripped, core[len(stripped) :])


def _beside(tokens: Sequence[Token], lead: str, piece: str, language: Language) -> str:
    """Puts lone punctuation behind the last word, or returns it as the next one's."""
    if not tokens or all(char in BRACKETS for char in piece):
        opens = all(char in _LEAD for char in piece)
        return lead + piece + (" " if piece[-1] in DASHES + "«" else "") if opens else lead
    if language.code == "fr" and piece[0] in _FRENCH:
        tokens[-1].trail += "\u00a0" + piece
    else:
        tokens[-1].trail += piece if piece[0] in ATTACHED else f" {piece}"
    return lead
