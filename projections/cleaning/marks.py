"""The punctuation that recognisers write, by what it does."""
# ruff: noqa: RUF001 - marks of many scripts look like each other

OPENERS = "([{\"'“‘«„‚‹¿¡「『《"
CLOSERS = ")]}\"'”’»›」』》"
BRACKETS = "([{“„«¿¡"
"""Openers that can't be closers."""
STOPS = ".?!…。！？؟۔।॥։።｡"
"""What ends a sentence, in the scripts that Whisper writes."""
LOUD_STOPS = "?!？！؟"
"""Those that a recogniser doesn't put at the end of half a sentence."""
WIDE_STOPS = "。！？"
"""Those that no space follows."""
PAUSES = ",;:、，；：،؛"
HYPHENS = "-‐‑"
DASHES = HYPHENS + "–—―"
ATTACHED = STOPS + PAUSES + ")]}”’»"
"""What belongs to the word before it, even with a space between."""
TYPOGRAPHIC_APOSTROPHE = "’"

_WIDE = (0x2E80, 0x9FFF)  # Chinese characters and kana
_DANDA = (0x0900, 0x09FF)  # Devanagari and Bengali
_NO_STOP = (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)  # Thai and Lao, Burmese, Khmer


def is_wide(char: str) -> bool:
    """Whether it is of a script that is written without spaces and with wide marks."""
    return _WIDE[0] <= ord(char) <= _WIDE[1]


def full_stop(char: str) -> str:
    """What ends a statement in the script of this letter; empty where nothing does."""
    code = ord(char)
    if any(first <= code <= last for first, last in _NO_STOP):
        return ""
    if _DANDA[0] <= code <= _DANDA[1]:
        return "।"
    return "。" if is_wide(char) else "."


def folded(core: str) -> str:
    """What a word is looked up and compared by: without capitals, apostrophes straight."""
    return core.casefold().replace(TYPOGRAPHIC_APOSTROPHE, "'")
