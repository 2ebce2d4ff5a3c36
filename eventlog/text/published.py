"""Texts as published: the session's options applied to the recognised text, which the facts keep."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from eventlog.events import UtteranceFinal, Word
from eventlog.text.numerals import to_digits
from eventlog.text.profanities import mask

_NUMERAL_LANGUAGES = frozenset({"", "en"})
"""Languages whose numbers are known; the empty one is unknown, and English by default."""


def publish_text(text: str, language: str, *, numerals: bool, profanity_filter: bool) -> str:
    """The text with numbers as digits and profanities masked, each if asked for."""
    if not numerals and not profanity_filter:
        return text
    tokens = text.split()
    changed = [one for _, _, one in _change(tokens, language, numerals, profanity_filter)]
    return text if changed == tokens else " ".join(changed)


def publish_final(fact: UtteranceFinal) -> UtteranceFinal:
    """The final as published: text and words alike, a number of several words as one with the times of all."""
    options = fact.numerals, fact.profanity_filter
    if not any(options):
        return fact
    words = fact.words
    return msgspec.structs.replace(
        fact,
        text=publish_text(fact.text, fact.language, numerals=fact.numerals, profanity_filter=fact.profanity_filter),
        words=tuple(
            words[first] if text == words[first].text else Word(
                text, words[first].start_samples, words[end - 1].end_samples,
                min(word.confidence for word in words[first:end]),
            )
            for first, end, text in _change([word.text for word in words], fact.language, *options)
        ),
    )  # fmt: skip


def publish_partial(
    text: str, stable: int, language: str, *, numerals: bool, profanity_filter: bool
) -> tuple[str, int]:
    """A partial's text as published, and how many of its characters are stable if `stable` of `text` are.

    A number that may still grow ("twenty" before "three") is not stable.
    """
    if not numerals and not profanity_filter:
        return text, stable
    options = {"numerals": numerals, "profanity_filter": profanity_filter}
    whole = publish_text(text, language, **options)
    begun = publish_text(text[:stable], language, **options)
    return whole, next((place for place, pair in enumerate(zip(whole, begun, strict=False)) if pair[0] != pair[1]),
                       min(len(whole), len(begun)))


def _change(tokens: Sequence[str], language: str, numerals: bool, masked: bool) -> list[tuple[int, int, str]]:  # noqa: FBT001 - private
    """The published tokens: (first, end, text), each made of the tokens from `first` on."""
    if numerals and language[:2].lower() in _NUMERAL_LANGUAGES:
        found = to_digits(tokens)
    else:
        found = [(place, place + 1, token) for place, token in enumerate(tokens)]
    return [(first, end, mask(text, language)) for first, end, text in found] if masked else found
