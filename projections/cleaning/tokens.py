"""A text as words, each with the punctuation before and behind it, and that punctuation by its function."""
# ruff: noqa: RUF001 - marks of many scripts look like each other

from __future__ import annotations

import re
from collections.abc import Sequence

from projections.cleaning.languages import Language, words_of

OPENERS = "([{\"'“‘«„‚‹¿¡「『《"
CLOSERS = ")]}\"'”’»›」』》"
BRACKETS = "([{“„«¿¡"
"""Openers that can't be closers."""
STOPS = ".?!…。！？؟۔।॥։።｡"
"""Sentence ends, in the scripts that Whisper writes."""
LOUD_STOPS = "?!？！؟"
"""Those that a recogniser doesn't put at the end of half a sentence."""
WIDE_STOPS = "。！？"
"""Those that no space follows."""
PAUSES = ",;:、，；：،؛"
HYPHENS = "-‐‑"
DASHES = HYPHENS + "–—―"
ATTACHED = STOPS + PAUSES + ")]}”’»"
"""Those that belong to the word before, even with a space between."""
TYPOGRAPHIC_APOSTROPHE = "’"

_WIDE = (0x2E80, 0x9FFF)  # Chinese characters and kana
_DANDA = (0x0900, 0x09FF)  # Devanagari and Bengali
_NO_STOP = (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)  # Thai and Lao, Burmese, Khmer

_LEAD = OPENERS + DASHES
_TRAIL = CLOSERS + STOPS + PAUSES + DASHES
_MARKS = frozenset(_LEAD + _TRAIL)
_MISPLACED = ",;?!"  # at a word's front, they belong to the word before
_FRENCH = "?!;:»"  # set off by a space there

# Whisper's names for sounds other than speech, within brackets or asterisks: "[BLANK_AUDIO]", "(soft music)",
# "*sighs*". Brackets alone prove nothing: each word of it must be one of these. At most 40 characters, so that the
# look-ahead of an unclosed bracket costs no more.
_SOUNDS = words_of(
    "applauding applause audio background beep beeping birds blank bleep cheering chirping chuckles chuckling "
    "clapping clears coughing coughs crosstalk crowd crying dramatic foreign gasps gentle groans inaudible indistinct "
    "instrumental language laughing laughs laughter light loud music musical no noise of pause phone playing plays "
    "ringing sigh sighs silence silent singing sniffs sobbing soft sound sounds speaking speech static tense the theme "
    "throat typing unintelligible upbeat video whispering wind"
) | {"bell"}
_BRACKETED = re.compile(r"[\[(*]([^\[\]()*]{1,40})[\])*]")
_TIGHT_COMMA = re.compile(r"(?<=[^\W\d_]),(?=[^\W\d_])")


class Token:
    """One word.

    Attributes:
        lead: Punctuation before it.
        core: The word, which may hold inner punctuation.
        trail: Punctuation behind it.
        word: The form by which the core is looked up and compared, which capitals don't change.
        begins: It is known to begin a sentence, whatever comes before it.
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
        """Whether the sentence may continue behind it as if nothing were there: no stop, no quotation mark."""
        return not self.trail or not self.trail.replace("...", "").strip(" ,…" + DASHES)

    @property
    def stop(self) -> str:
        """The first stop behind it; empty for none."""
        return next((char for char in self.trail if char in STOPS), "") if self.trail else ""


def split_words(text: str, language: Language) -> list[Token]:
    """Split a text into words, without names of other sounds; lone punctuation is attached to a word."""
    tokens: list[Token] = []
    lead = ""
    text = _TIGHT_COMMA.sub(", ", _BRACKETED.sub(_drop_sound, text.replace("♪", " ").replace("♫", " ")))
    for piece in text.split():
        if piece.isalnum():  # most are, and need no closer look
            tokens.append(Token(lead, piece, ""))
            lead = ""
            continue
        if all(char in _MARKS for char in piece):
            lead = _attach(tokens, lead, piece, language)
            continue
        token = _token(piece, tokens)
        token.lead, lead = lead + token.lead, ""
        tokens.append(token)
    return tokens


def join_tokens(tokens: Sequence[Token]) -> str:
    """Join the words with their punctuation, separated as their script requires."""
    pieces: list[str] = []
    for token in tokens:
        glued = pieces and pieces[-1][-1] in WIDE_STOPS and is_wide(token.core[0])
        pieces.append(f"{'' if glued or not pieces else ' '}{token.lead}{token.core}{token.trail}")
    return "".join(pieces)


def _drop_sound(match: re.Match[str]) -> str:
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


def _attach(tokens: Sequence[Token], lead: str, piece: str, language: Language) -> str:
    """Put lone punctuation behind the last word, or return it as the next one's."""
    if not tokens or all(char in BRACKETS for char in piece):
        opens = all(char in _LEAD for char in piece)
        return lead + piece + (" " if piece[-1] in DASHES + "«" else "") if opens else lead
    if language.code == "fr" and piece[0] in _FRENCH:
        tokens[-1].trail += "\u00a0" + piece
    else:
        tokens[-1].trail += piece if piece[0] in ATTACHED else f" {piece}"
    return lead


def is_wide(char: str) -> bool:
    """Whether it is of a script that is written without spaces and with wide marks."""
    return _WIDE[0] <= ord(char) <= _WIDE[1]


def find_full_stop(char: str) -> str:
    """The mark that ends a statement in the script of this letter; empty where none does."""
    code = ord(char)
    if any(first <= code <= last for first, last in _NO_STOP):
        return ""
    if _DANDA[0] <= code <= _DANDA[1]:
        return "।"
    return "。" if is_wide(char) else "."


def fold(core: str) -> str:
    """The form by which a word is looked up and compared: without capitals, apostrophes straight."""
    return core.casefold().replace(TYPOGRAPHIC_APOSTROPHE, "'")
