"""Words, parts of words and phrases that were begun twice, as speakers do while they look for the next one.

Repetitions that could be meant ("had had", "very very", "no, no", "seven seven four") stay: only words of the
language's tables, which speakers never say twice for emphasis, are taken for stutters. Each token is pushed and popped
at most once, and compared with a bounded number of earlier ones, so the time is linear.
"""

from __future__ import annotations

from collections.abc import Sequence

from projections.cleaning.languages import Language
from projections.cleaning.tokens import HYPHENS, Token, fold

_PHRASE_SIZES = range(2, 6)  # words: up to "I think we should go"; longer repetitions are rarely slips
_EARLIER = slice(-_PHRASE_SIZES.stop, -_PHRASE_SIZES.start)
"""Where the last word of an earlier phrase can be."""
_VOWELS = frozenset("aeiouy")


def remove_stutters(tokens: Sequence[Token], language: Language) -> list[Token]:
    """The tokens with each stutter said once: cased as first said, punctuated as last said."""
    kept: list[Token] = []
    words: list[str] = []  # those of `kept`: most tokens are no repetition, which shows in them soonest
    for token in tokens:
        if "-" in token.core:
            _drop_stuttered_start(token, language)
        while words and words[-1] in words[_EARLIER] and _drop_repeated_phrase(kept, language):
            del words[len(kept) :]
        while words and token.word.startswith(words[-1]) and _is_repeat(kept, token, language):
            words.pop()
            first = kept.pop()
            token.lead, token.begins = first.lead, first.begins
            token.core = _match_case(token.core, first.core)
        kept.append(token)
        words.append(token.word)
    return kept


def _drop_stuttered_start(token: Token, language: Language) -> None:
    """Takes off a stuttered beginning: "w-we" is "we", "th-thanks" is "thanks"; "t-test" and "re-read" stay."""
    *starts, core = token.core.split("-")
    word = fold(core)
    if not all(starts) or not core or not (word in language.restarted or _is_noise(starts)):
        return
    if fold(starts[0]) == word and word not in language.stuttered:  # "tsk-tsk"
        return
    if all(start.isalpha() and word.startswith(start.casefold()) for start in starts):
        token.core, token.word = _match_case(core, starts[0]), word


def _is_noise(starts: Sequence[str]) -> bool:
    """Whether these can't be words: one letter again and again ("b-b-"), or consonants alone ("th-")."""
    first = starts[0]
    if {start.casefold() for start in starts} != {first.casefold()}:
        return False
    return len(starts) > 1 if len(first) == 1 else first.islower() and first.isascii() and not _VOWELS & set(first)


def _is_repeat(kept: Sequence[Token], second: Token, language: Language) -> bool:
    """Whether the token says the last one again, or what that one broke off."""
    first = kept[-1]
    one, other = first.word, second.word
    if not other.startswith(one) or not first.is_open or second.lead or second.begins:
        return False
    begins = len(kept) == 1 or bool(kept[-2].stop) or first.begins
    if first.core[0].isupper() and not begins and one[:2] not in ("i", "i'"):  # a name, a grade: "plan A, a good one"
        return False
    if one == other:
        return one in language.stuttered or (begins and one in language.stuttered_at_start)
    if one in language.subjects and other.startswith(f"{one}'"):
        return True
    broken_off = first.trail.startswith(tuple(HYPHENS))  # "pro- probably"
    return broken_off and one.isalpha()


def _drop_repeated_phrase(kept: list[Token], language: Language) -> bool:
    """Whether the last words said the ones before them again, which are then dropped; asked when more words follow.

    A repetition that ends its sentence or clause ("I know, I know, but") is meant.
    """
    if kept[-1].trail:
        return False
    last = kept[-1].word
    for size in _PHRASE_SIZES:
        if 2 * size > len(kept):
            return False
        if kept[-1 - size].word != last:
            continue
        first, second = kept[-2 * size : -size], kept[-size:]
        earlier = kept[-2 * size - 1] if len(kept) > 2 * size else None
        before = earlier.word if earlier and earlier.is_open else ""
        if _is_restart(first, second, before, language):
            for one, again in zip(first, second, strict=True):
                one.trail = again.trail
            del kept[-size:]
            return True
    return False


def _is_restart(first: Sequence[Token], second: Sequence[Token], before: str, language: Language) -> bool:
    if first[0].word not in language.restarted:
        return False
    words = [token.word for token in first]
    if words != [token.word for token in second] or words[-1] in language.linking:
        return False
    if before == words[-1] and words[0] in language.linking:  # "step by step by step"
        return False
    if any(word in language.numbers or any(char.isdigit() for char in word) for word in words):
        return False
    seamless = all(token.is_open for token in first)
    return len(set(words)) > 1 and seamless and not any(token.lead or token.begins for token in second)


def _match_case(core: str, first: str) -> str:
    if first[:1].isupper() and first != "I" and core[:1].islower() and core[0].upper().casefold() == core[0]:
        return core[0].upper() + core[1:]
    return core
