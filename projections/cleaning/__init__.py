"""From what was said to what is read: fillers and stutters out, sentences and paragraphs in. Pure; never adds a word.

docs/cleaning.md says what it does and doesn't, with examples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from eventlog.readmodel.documents import ListedFinal
from projections.cleaning.casing import cased, shouted, whispered
from projections.cleaning.fillers import without_fillers
from projections.cleaning.languages import Language, language_of
from projections.cleaning.seams import close, goes_on, join
from projections.cleaning.stutters import without_stutters
from projections.cleaning.tokens import Token, split, text_of

PARAGRAPH_PAUSE_S = 1.4
"""Pause between two utterances from which on a paragraph ends. Utterances hold 0.3 s of what is before and behind
them, so it is two seconds of silence: sentences of one thought mostly follow within one."""

_LABEL_OF_AUDIO = re.compile(r"speaker-[0-9a-f]{4}")
"""A label that says which audio it was, another for each utterance, and nothing about whose voice that is."""

_Said = tuple[ListedFinal, list[Token]]


def clean(finals: Sequence[ListedFinal], language: str) -> str:
    """The readable text of these utterances, in order; paragraphs are separated by an empty line.

    `language` is the code that the session was started with, such as "en".
    """
    rules = language_of(language)
    said = [(final, split(final.text, rules)) for final in finals]
    if shouted(token for _, tokens in said for token in tokens):
        for _, tokens in said:
            whispered(tokens)
    said = [(final, kept) for final, tokens in said if (kept := without_fillers(tokens, rules))]
    return "\n\n".join(text_of(_finished(tokens, rules)) for tokens in _paragraphs(said, rules))


def _paragraphs(said: Sequence[_Said], language: Language) -> list[list[Token]]:
    lower: set[str] | None = None
    paragraphs: list[list[Token]] = []
    last: ListedFinal | None = None
    for final, tokens in said:
        if last is None or not _same_voice(last, final):
            paragraphs.append(tokens)
        elif goes_on(paragraphs[-1], tokens, language, soon=final.start - last.end < PARAGRAPH_PAUSE_S):
            lower = _lower(said) if lower is None else lower
            join(paragraphs[-1], tokens, language, lower)
        elif final.start - last.end < PARAGRAPH_PAUSE_S:
            close(paragraphs[-1], language)
            tokens[0].begins = True
            paragraphs[-1] += tokens
        else:
            paragraphs.append(tokens)
        last = final
    return paragraphs


def _lower(said: Sequence[_Said]) -> set[str]:
    return {token.core for _, tokens in said for token in tokens if token.core.islower()}


def _same_voice(one: ListedFinal, other: ListedFinal) -> bool:
    unknown = all(_LABEL_OF_AUDIO.fullmatch(final.speaker) for final in (one, other))
    return one.channel == other.channel and (unknown or one.speaker == other.speaker)


def _finished(tokens: list[Token], language: Language) -> list[Token]:
    kept = without_stutters(tokens, language)
    close(kept, language)
    cased(kept, language)
    return kept
